//! One line of a Docker log.
