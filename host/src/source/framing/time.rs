//! Times of RFC 3339.
