//! Hashes, graphs and a warm-up.
