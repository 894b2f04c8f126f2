//! Instances into durable, searchable studies: files and an SQLite index.

/// The archive. Cheap to clone; methods block.
#[derive(Clone)]
pub struct Archive {}
