//! SEER-Loop: rounds that harvest skills and gate them.
