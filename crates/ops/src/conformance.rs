//! The suite that every backend runs: its results beside those of the scalar specification.
