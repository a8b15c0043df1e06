# The focal losses of the Keras pages for R, from Python's parfocal through reticulate.
#
#   Sys.setenv(RETICULATE_PYTHON = "/path/to/python")     # of an environment that has parfocal
#   source("parfocal.R")
#
# Names, arguments and defaults are those of keras3: called with y_true and y_pred a function computes losses, and
# without them it builds a loss.  Vectors and matrices go in, and R's numbers come out.

parfocal <- reticulate::import("parfocal", convert = FALSE)

# A vector as a list, a matrix or an array as nested lists by rows: any version of reticulate hands these over.
as_rows <- function(x) {
  if (is.null(x) || is.list(x)) return(x)
  if (length(dim(x)) < 2) return(as.list(as.vector(x)))
  lapply(seq_len(dim(x)[1]), function(i) {
    row <- asub(x, i)
    if (length(dim(x)) == 2) as.list(as.vector(row)) else as_rows(array(row, dim(x)[-1]))
  })
}
asub <- function(x, i) do.call(`[`, c(list(x, i), rep(list(TRUE), length(dim(x)) - 1)))

# Python's numbers as R's: a number, a vector, or a matrix by rows.
as_numbers <- function(x) {
  found <- reticulate::py_to_r(x$tolist())
  if (is.list(found)) do.call(rbind, found) else found
}

per_class <- function(x) if (length(x) > 1) as.list(x) else x
from_zero <- function(axis) as.integer(if (axis > 0) axis - 1 else axis) # R counts axes from 1, and from the end alike

# Losses if there is something to compute them from, else a loss.
losses_or_loss <- function(kind, settings, y_true, y_pred, reduction, name, dtype) {
  settings$axis <- from_zero(settings$axis)
  if (!is.null(y_true)) {
    given <- c(list(as_rows(y_true), as_rows(y_pred)), settings)
    return(as_numbers(do.call(parfocal[[paste0(kind, "_focal_crossentropy")]], given)))
  }
  words <- list(binary = "Binary", categorical = "Categorical", sparse_categorical = "SparseCategorical")
  build <- parfocal[[paste0(words[[kind]], "FocalCrossentropy")]]
  object <- do.call(build, c(settings, list(reduction = reduction, name = name, dtype = dtype)))
  structure(
    function(y_true, y_pred, sample_weight = NULL) {
      as_numbers(object$`__call__`(as_rows(y_true), as_rows(y_pred), sample_weight = as_rows(sample_weight)))
    },
    class = "focal_loss", object = object
  )
}

loss_binary_focal_crossentropy <- function(
    y_true = NULL, y_pred = NULL, apply_class_balancing = FALSE, alpha = 0.25, gamma = 2, from_logits = FALSE,
    label_smoothing = 0, axis = -1L, reduction = "sum_over_batch_size", name = "binary_focal_crossentropy",
    dtype = NULL) {
  settings <- list(
    apply_class_balancing = apply_class_balancing, alpha = alpha, gamma = per_class(gamma), from_logits = from_logits,
    label_smoothing = label_smoothing, axis = axis
  )
  losses_or_loss("binary", settings, y_true, y_pred, reduction, name, dtype)
}

loss_categorical_focal_crossentropy <- function(
    y_true = NULL, y_pred = NULL, alpha = 0.25, gamma = 2, from_logits = FALSE, label_smoothing = 0, axis = -1L,
    reduction = "sum_over_batch_size", name = "categorical_focal_crossentropy", dtype = NULL) {
  settings <- list(
    alpha = per_class(alpha), gamma = per_class(gamma), from_logits = from_logits, label_smoothing = label_smoothing,
    axis = axis
  )
  losses_or_loss("categorical", settings, y_true, y_pred, reduction, name, dtype)
}

# For class indices, which Keras has no focal loss for.  They count from 0, as in Keras.
loss_sparse_categorical_focal_crossentropy <- function(
    y_true = NULL, y_pred = NULL, alpha = 0.25, gamma = 2, from_logits = FALSE, label_smoothing = 0,
    ignore_class = NULL, axis = -1L, reduction = "sum_over_batch_size",
    name = "sparse_categorical_focal_crossentropy", dtype = NULL) {
  settings <- list(
    alpha = per_class(alpha), gamma = per_class(gamma), from_logits = from_logits, label_smoothing = label_smoothing,
    axis = axis
  )
  settings["ignore_class"] <- list(if (is.null(ignore_class)) NULL else as.integer(ignore_class))
  losses_or_loss("sparse_categorical", settings, y_true, y_pred, reduction, name, dtype)
}

# As in Keras, these metrics are the functions.
metric_binary_focal_crossentropy <- function(y_true, y_pred, ...) loss_binary_focal_crossentropy(y_true, y_pred, ...)
metric_categorical_focal_crossentropy <- function(y_true, y_pred, ...) {
  loss_categorical_focal_crossentropy(y_true, y_pred, ...)
}

# What only parfocal has: probabilities from trained scores, and the bias to start with.
posterior <- function(loss, y_pred) {
  numpy <- reticulate::import("numpy", convert = FALSE)
  as_numbers(attr(loss, "object")$posterior(numpy$array(as_rows(y_pred))))
}
optimal_logit <- function(loss, prior) {
  found <- attr(loss, "object")$optimal_logit(per_class(prior))
  if (length(prior) > 1) as_numbers(found) else reticulate::py_to_r(found)
}

config_floatx <- function() reticulate::py_to_r(parfocal$config$floatx())
config_set_floatx <- function(value) invisible(parfocal$config$set_floatx(value))
config_epsilon <- function() reticulate::py_to_r(parfocal$config$epsilon())
config_set_epsilon <- function(value) invisible(parfocal$config$set_epsilon(value))
