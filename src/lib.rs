//! pondera: own an open-weight language model.
