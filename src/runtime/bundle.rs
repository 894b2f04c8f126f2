//! A bundle's folder: its manifest and vocabulary, with every file's hash checked.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::RuntimeError;
use super::manifest::{BackboneManifest, FileEntry, Manifest, ReasonerManifest};
use super::vocabulary::Vocabulary;

/// A bundle's manifest and vocabulary with its folder; hashes checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    folder: PathBuf,
    manifest: Manifest,
    manifest_sha256: String,
    vocabulary: Vocabulary,
}

impl Bundle {
    /// Opens the bundle in `folder` and checks the size and SHA-256 of every file it lists.
    ///
    /// # Errors
    /// Names the file, what was expected and what was found: a missing or unreadable file, an
    /// unknown key, a file that a part uses but `[[files]]` does not list, a wrong size or hash, a
    /// phrase of the vocabulary that means two things.
    #[tracing::instrument(skip_all, fields(bundle.folder = %folder.display()))]
    pub fn open(folder: &Path) -> Result<Self, RuntimeError> {
        let manifest_path = folder.join("manifest.toml");
        let manifest: Manifest = read_toml(&manifest_path)?;
        check_manifest(&manifest, &manifest_path)?;
        manifest.files.par_iter().try_for_each(|entry| check_file(folder, entry))?;
        let vocabulary = match &manifest.vocabulary {
            Some(file) => {
                let path = folder.join(file);
                let vocabulary: Vocabulary = read_toml(&path)?;
                vocabulary
                    .check_phrases()
                    .map_err(|reason| RuntimeError::Malformed { path, reason })?;
                vocabulary
            }
            None => Vocabulary::default(),
        };
        let manifest_sha256 = sha256_of_file(&manifest_path)
            .map_err(|source| RuntimeError::Read { path: manifest_path, source })?;
        Ok(Self { folder: folder.to_owned(), manifest, manifest_sha256, vocabulary })
    }

    /// Where the bundle lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Everything the manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of `manifest.toml`, which names the hash of every other file: one value that
    /// identifies the whole bundle.
    pub fn manifest_sha256(&self) -> &str {
        &self.manifest_sha256
    }

    /// The concepts the bundle knows; empty when it names no vocabulary.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The reasoner's part.
    ///
    /// # Errors
    /// When the bundle carries none.
    pub fn reasoner(&self) -> Result<&ReasonerManifest, RuntimeError> {
        self.manifest.reasoner.as_ref().ok_or_else(|| self.part_missing("reasoner"))
    }

    /// The backbone's part.
    ///
    /// # Errors
    /// When the bundle carries none.
    pub fn backbone(&self) -> Result<&BackboneManifest, RuntimeError> {
        self.manifest.backbone.as_ref().ok_or_else(|| self.part_missing("backbone"))
    }

    /// The full path of a file that the manifest names.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The SHA-256 that the manifest gives for a file, checked when the bundle was opened.
    pub fn sha256(&self, file: &str) -> Option<&str> {
        self.manifest.files.iter().find(|e| e.path == file).map(|e| e.sha256.as_str())
    }

    fn part_missing(&self, part: &'static str) -> RuntimeError {
        RuntimeError::PartMissing { bundle: self.manifest.name.clone(), part }
    }
}

/// Reads a TOML file into a typed value; a fault names the file and line.
pub(crate) fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, RuntimeError> {
    let text = read_text(path)?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        let reason = format!("line {line}: {}", error.message().replace('\n', " "));
        RuntimeError::Malformed { path: path.to_owned(), reason }
    })
}

/// Reads a text file of a bundle.
pub(crate) fn read_text(path: &Path) -> Result<String, RuntimeError> {
    std::fs::read_to_string(path)
        .map_err(|source| RuntimeError::Read { path: path.to_owned(), source })
}

/// Refuses paths that leave the folder, files that are used but not listed and a probability that
/// is none.
fn check_manifest(manifest: &Manifest, path: &Path) -> Result<(), RuntimeError> {
    let malformed = |reason| Err(RuntimeError::Malformed { path: path.to_owned(), reason });
    for entry in &manifest.files {
        let inside =
            Path::new(&entry.path).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return malformed(format!("file {} does not lie in the bundle's folder", entry.path));
        }
    }
    let doubt = manifest.reasoner.as_ref().and_then(|reasoner| reasoner.decoding.doubt_below);
    if let Some(found) = doubt.filter(|value| !(0.0..=1.0).contains(value)) {
        return malformed(format!("reasoner.decoding.doubt_below is {found}, not within 0 and 1"));
    }
    for used in used_files(manifest) {
        if !manifest.files.iter().any(|entry| entry.path == used) {
            return malformed(format!("{used} is used but has no [[files]] entry"));
        }
    }
    Ok(())
}

fn used_files(manifest: &Manifest) -> Vec<&str> {
    let mut used: Vec<&str> = manifest.vocabulary.iter().map(String::as_str).collect();
    if let Some(r) = &manifest.reasoner {
        let graphs = [&r.vision_encoder, &r.embed_tokens, &r.decoder];
        let texts = [&r.tokenizer, &r.chat_template, &r.prompt];
        used.extend(graphs.into_iter().chain(texts).map(String::as_str));
    }
    if let Some(backbone) = &manifest.backbone {
        used.extend(backbone.files());
    }
    used
}

fn check_file(folder: &Path, entry: &FileEntry) -> Result<(), RuntimeError> {
    let path = folder.join(&entry.path);
    let read_error = |source| RuntimeError::Read { path: path.clone(), source };
    let differs = |what, expected: &str, found: String| RuntimeError::FileDiffers {
        path: path.clone(),
        what,
        expected: expected.to_owned(),
        found,
    };
    let size = std::fs::metadata(&path).map_err(read_error)?.len();
    if size != entry.size_bytes {
        return Err(differs("size in bytes", &entry.size_bytes.to_string(), size.to_string()));
    }
    let sha256 = sha256_of_file(&path).map_err(read_error)?;
    if sha256 != entry.sha256 {
        return Err(differs("sha256", &entry.sha256, sha256));
    }
    Ok(())
}

/// SHA-256 of a file's bytes in lower-case hex, read in pieces.
pub(crate) fn sha256_of_file(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
    }
}
