//! What graphs must look like.
