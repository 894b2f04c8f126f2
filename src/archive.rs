//! Instances into durable, searchable studies: files and an SQLite index.
