# Every number of Keras's pages for R on loss_binary_focal_crossentropy and loss_categorical_focal_crossentropy.
#
#   RETICULATE_PYTHON=$(command -v python) Rscript docs/r/keras_pages.R
#
# tests/test_r.py runs it and compares what it prints with what the pages print.

here <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
source(file.path(dirname(here), "parfocal.R"))

say <- function(what, value) cat(what, ": ", paste(format(value, digits = 8, trim = TRUE), collapse = " "), "\n", sep = "")

# -- loss_binary_focal_crossentropy

y_true <- rbind(c(0, 1), c(0, 0))
y_pred <- rbind(c(0.6, 0.4), c(0.4, 0.6))
say("binary function, gamma 2", loss_binary_focal_crossentropy(y_true, y_pred, gamma = 2))
say("binary metric, gamma 2", metric_binary_focal_crossentropy(y_true, y_pred, gamma = 2))

y_true <- c(0, 1, 0, 0)
y_pred <- c(-18.6, 0.51, 2.94, -12.8)
loss <- loss_binary_focal_crossentropy(gamma = 2, from_logits = TRUE)
say("binary, four, gamma 2", loss(y_true, y_pred))
loss <- loss_binary_focal_crossentropy(apply_class_balancing = TRUE, gamma = 2, from_logits = TRUE)
say("binary, four, gamma 2, balanced", loss(y_true, y_pred))

y_true <- rbind(c(0, 1), c(0, 0))
y_pred <- rbind(c(-18.6, 0.51), c(2.94, -12.8))
loss <- loss_binary_focal_crossentropy(gamma = 3, from_logits = TRUE)
say("binary, two rows, gamma 3", loss(y_true, y_pred))
say("binary, two rows, gamma 3, weighted", loss(y_true, y_pred, sample_weight = c(0.8, 0.2)))
loss <- loss_binary_focal_crossentropy(apply_class_balancing = TRUE, gamma = 3, from_logits = TRUE)
say("binary, two rows, gamma 3, balanced", loss(y_true, y_pred))
say("binary, two rows, gamma 3, balanced, weighted", loss(y_true, y_pred, sample_weight = c(0.8, 0.2)))
loss <- loss_binary_focal_crossentropy(gamma = 4, from_logits = TRUE, reduction = "sum")
say("binary, two rows, gamma 4, sum", loss(y_true, y_pred))
loss <- loss_binary_focal_crossentropy(apply_class_balancing = TRUE, gamma = 4, from_logits = TRUE, reduction = "sum")
say("binary, two rows, gamma 4, balanced, sum", loss(y_true, y_pred))
loss <- loss_binary_focal_crossentropy(gamma = 5, from_logits = TRUE, reduction = NULL)
say("binary, two rows, gamma 5, none", loss(y_true, y_pred))
loss <- loss_binary_focal_crossentropy(apply_class_balancing = TRUE, gamma = 5, from_logits = TRUE, reduction = NULL)
say("binary, two rows, gamma 5, balanced, none", loss(y_true, y_pred))

# -- loss_categorical_focal_crossentropy

y_true <- rbind(c(0, 1, 0), c(0, 0, 1))
y_pred <- rbind(c(0.05, 0.9, 0.05), c(0.1, 0.85, 0.05))
say("categorical function", loss_categorical_focal_crossentropy(y_true, y_pred))
say("categorical metric", metric_categorical_focal_crossentropy(y_true, y_pred))

y_pred <- rbind(c(0.05, 0.95, 0), c(0.1, 0.8, 0.1))
say("categorical function, second", loss_categorical_focal_crossentropy(y_true, y_pred))
loss <- loss_categorical_focal_crossentropy()
say("categorical", loss(y_true, y_pred))
say("categorical, weighted", loss(y_true, y_pred, sample_weight = c(0.3, 0.7)))
loss <- loss_categorical_focal_crossentropy(reduction = "sum")
say("categorical, sum", loss(y_true, y_pred))
loss <- loss_categorical_focal_crossentropy(reduction = NULL)
say("categorical, none", loss(y_true, y_pred))

# -- what Keras does not have

say("sparse", loss_sparse_categorical_focal_crossentropy(c(1, 2), y_pred))
say("one alpha for each class", loss_categorical_focal_crossentropy(y_true, y_pred, alpha = c(0.2, 0.3, 0.5)))
say("axis 2 is the last of two", loss_categorical_focal_crossentropy(y_true, y_pred, axis = 2L))
say("posterior of 0.154, 0.5, 0.7", posterior(loss_binary_focal_crossentropy(gamma = 2), c(0.154, 0.5, 0.7)))
say("optimal logit of 1 %", optimal_logit(loss_binary_focal_crossentropy(gamma = 2), 0.01))
say("floatx", config_floatx())
say("epsilon", config_epsilon())
