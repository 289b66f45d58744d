//! Each rule on a case that it is for, and on its honest neighbour.
