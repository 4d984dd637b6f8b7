//! One line of a CRI log.
