"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("parfocal-report").textContent);
  const slider = byId("slider");
  if (!slider) return;
  document.documentElement.classList.add("with-js");
  const { thresholds, alarms, hits, positives } = data.curve;
  const svg = document.querySelector("svg.chart[data-x]");
  const scale = (text) => {
    const [low, high, begin, end] = text.split(",").map(Number);
    return (value) => begin + (Math.min(Math.max(value, low), high) - low) / (high - low) * (end - begin);
  };
  const x = scale(svg.dataset.x), y = scale(svg.dataset.y);
  const digits = (value, most) => Number(value.toPrecision(most)).toLocaleString("en-US", { maximumFractionDigits: 12 });
  const about = (value) => value >= 9.5 ? value.toFixed(0) : digits(value, 2);
  const money = (value) => value >= 100 ? Math.round(value).toLocaleString("en-US") : digits(value, 3);
  const price = (id) => Math.max(Number(byId(id).value) || 0, 0);
  const cost = (k) => price("miss") * (positives - hits[k]) + price("alarm") * (alarms[k] - hits[k]);
  const say = (id, text) => { byId(id).textContent = text; };

  // The outline of one row; charts.py has the same.
  const pitch = 380 / 40;
  const outline = {
    hits: (a, b) => `M${a},${b}h0`,
    misses: (a, b) => `M${a - 3},${b}a3,3 0 1,0 6,0a3,3 0 1,0 -6,0`,
    "false-alarms": (a, b) => `M${a - 2.5},${b - 2.5}l5,5m0,-5l-5,5`,
    quiet: (a, b) => `M${a},${b}h0`,
  };
  const picture = (k) => {
    const found = Math.round(hits[k]), all = Math.max(Math.round(positives), found);
    const ends = [found, all, all + Math.max(Math.round(alarms[k]) - found, 0), 1000];
    let begin = 0;
    Object.keys(outline).forEach((name, part) => {
      let d = "";
      for (let row = begin; row < Math.min(ends[part], 1000); row++) {
        d += outline[name]((row % 40 + 0.5) * pitch, (Math.floor(row / 40) + 0.5) * pitch);
      }
      byId("rows-" + name).setAttribute("d", d);
      begin = Math.max(begin, ends[part]);
    });
  };
  const update = () => {
    const k = Number(slider.value);
    say("threshold-said", digits(100 * thresholds[k], 3) + " %");
    say("hits", about(hits[k]));
    say("misses", about(positives - hits[k]));
    say("false-alarms", about(alarms[k] - hits[k]));
    say("quiet", about(1000 - alarms[k] - (positives - hits[k])));
    say("alarms", about(alarms[k]));
    say("cost", money(cost(k)));
    say("miss-said", digits(price("miss"), 3));
    say("alarm-said", digits(price("alarm"), 3));
    say("nothing", money(price("miss") * positives));
    say("everything", money(price("alarm") * (1000 - positives)));
    slider.setAttribute("aria-valuetext", byId("threshold-said").textContent);
    byId("pr-dot").setAttribute("transform", `translate(${x(hits[k] / positives)} ${y(hits[k] / (alarms[k] || 1))})`);
    picture(k);
  };
  const nearest = (threshold) => thresholds.reduce(
    (best, value, k) => Math.abs(value - threshold) < Math.abs(thresholds[best] - threshold) ? k : best, 0);
  const go = (k) => { slider.value = k; update(); };
  const back = () => {
    const decided = data.decisions[0].threshold;
    slider.value = 0;
    if (decided !== null && decided <= 1) go(nearest(decided)); // otherwise no row is an alarm, as the page says
  };
  slider.addEventListener("input", update);
  byId("miss").addEventListener("input", update);
  byId("alarm").addEventListener("input", update);
  byId("back").addEventListener("click", back);
  byId("cheapest").addEventListener("click", () => go(thresholds.reduce((best, _, k) => cost(k) < cost(best) ? k : best, 0)));
  back();
})();
