//! Try.
mod archive;
mod config;
mod support {
    pub mod studies;
}
