//! Fetches ONNX Runtime's library from its pinned PyPI wheel into a folder that git ignores.
//!
//! `seer setup`, `seer demo` and the tests call [`ensure`]. Python 3 with pip does the download;
//! nothing is installed, and serving needs no Python. The wheel's SHA-256 is pinned here, so a
//! different file is refused whatever index it came from.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Provider;
use super::bundle::sha256_of_file;
use crate::error::{ErrorKind, Kind};

/// The ONNX Runtime version that `ort` 2.0.0-rc.15 wraps.
pub const VERSION: &str = "1.31.1";

/// The folder, below the working directory, where the library is kept.
pub const FOLDER: &str = ".seer/onnxruntime";

/// A wheel on PyPI.
struct Wheel {
    package: &'static str,
    provider: Provider,
    machine: &'static str,
    sha256: &'static str,
}

impl Wheel {
    /// Whether the libraries inside run on `provider`.
    fn serves(&self, provider: Provider) -> bool {
        match provider {
            Provider::Cpu | Provider::Cuda => self.provider == provider,
            Provider::TensorRt => self.provider == Provider::Cuda,
        }
    }
}

/// CPython 3.12 manylinux_2_28 wheels; the library inside does not depend on Python.
const WHEELS: [Wheel; 3] = [
    Wheel {
        package: "onnxruntime",
        provider: Provider::Cpu,
        machine: "x86_64",
        sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
    },
    Wheel {
        package: "onnxruntime",
        provider: Provider::Cpu,
        machine: "aarch64",
        sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    },
    Wheel {
        package: "onnxruntime-gpu",
        provider: Provider::Cuda,
        machine: "x86_64",
        sha256: "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
    },
];

/// Takes the libraries and licences out of the wheel at argv 1 into the folder at argv 2.
const UNPACK: &str = r#"
import os, shutil, sys, zipfile
wheel, folder = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        base = os.path.basename(name)
        library = "/capi/lib" in name and ".so" in base
        if library or base in ("LICENSE", "ThirdPartyNotices.txt"):
            with archive.open(name) as source, open(os.path.join(folder, base), "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
"#;

/// Where [`ensure`] puts the library for a provider.
pub fn library(folder: &Path, provider: Provider) -> PathBuf {
    build(folder, provider).join(format!("libonnxruntime.so.{VERSION}"))
}

/// Makes sure that ONNX Runtime lies below `folder` and gives the library's path.
///
/// Does nothing when it is there already. Otherwise downloads the wheel with pip into a temporary
/// folder, checks its SHA-256, unpacks the libraries and licences, and renames the result into
/// place, so that a broken run leaves nothing half done. `tell` gets one line per step.
///
/// # Errors
/// When this kind of machine has no pinned wheel, Python 3 or pip is missing, the download fails
/// (as it does offline), the wheel is not the pinned one, or the folder cannot be written.
#[tracing::instrument(skip_all, fields(provider = provider.name()))]
pub fn ensure(
    folder: &Path,
    provider: Provider,
    tell: &dyn Fn(&str),
) -> Result<PathBuf, SetupError> {
    let library = library(folder, provider);
    if library.is_file() {
        return Ok(library);
    }
    let wheel = pinned_wheel(provider)?;
    std::fs::create_dir_all(folder).map_err(|e| unwritable(folder, e))?;
    // Beside its target, so that the rename does not cross file systems.
    let work = tempfile::Builder::new()
        .prefix("fetch-")
        .tempdir_in(folder)
        .map_err(|e| unwritable(folder, e))?;
    tell(&format!("Downloading {} {VERSION} with pip", wheel.package));
    let file = download(wheel, work.path())?;
    tell("Checking and unpacking it");
    check_sha256(&file, wheel.sha256)?;
    let unpacked = work.path().join("unpacked");
    std::fs::create_dir(&unpacked).map_err(|e| unwritable(&unpacked, e))?;
    unpack(&file, &unpacked)?;
    publish(&unpacked, &build(folder, provider), &library)?;
    tell(&format!("ONNX Runtime {VERSION} is in {}", library.display()));
    Ok(library)
}

/// The folder of a provider's build; TensorRT comes with the CUDA build.
fn build(folder: &Path, provider: Provider) -> PathBuf {
    folder.join(match provider {
        Provider::Cpu => Provider::Cpu.name(),
        Provider::Cuda | Provider::TensorRt => Provider::Cuda.name(),
    })
}

fn pinned_wheel(provider: Provider) -> Result<&'static Wheel, SetupError> {
    let (os, machine) = (std::env::consts::OS, std::env::consts::ARCH);
    WHEELS.iter().find(|w| os == "linux" && w.machine == machine && w.serves(provider)).ok_or_else(
        || SetupError::NoWheel { machine: format!("{os} {machine}"), provider: provider.name() },
    )
}

fn download(wheel: &Wheel, into: &Path) -> Result<PathBuf, SetupError> {
    let requirement = format!("{}=={VERSION}", wheel.package);
    let platforms =
        ["manylinux_2_28", "manylinux_2_27"].map(|name| format!("{name}_{}", wheel.machine));
    python(
        "download",
        [
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "--python-version",
            "3.12",
            "--implementation",
            "cp",
            "--abi",
            "cp312",
            "--platform",
            &platforms[0],
            "--platform",
            &platforms[1],
            "--dest",
        ]
        .map(OsStr::new)
        .into_iter()
        .chain([into.as_os_str(), OsStr::new(&requirement)]),
    )?;
    let entries = std::fs::read_dir(into).map_err(|e| unwritable(into, e))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension() == Some(OsStr::new("whl")))
        .ok_or(SetupError::Python {
            step: "download",
            reason: "pip reported success but left no wheel".to_owned(),
        })
}

fn check_sha256(file: &Path, expected: &str) -> Result<(), SetupError> {
    let found = sha256_of_file(file).map_err(|e| unwritable(file, e))?;
    if found == expected {
        return Ok(());
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(SetupError::WrongHash { name, expected: expected.to_owned(), found })
}

fn unpack(wheel: &Path, into: &Path) -> Result<(), SetupError> {
    let arguments = [OsStr::new("-c"), OsStr::new(UNPACK), wheel.as_os_str(), into.as_os_str()];
    python("unpack", arguments)
}

/// Renames the finished folder into place. Another process may have done so first: same content.
fn publish(unpacked: &Path, target: &Path, library: &Path) -> Result<(), SetupError> {
    match std::fs::rename(unpacked, target) {
        Ok(()) => {}
        Err(_) if library.is_file() => return Ok(()),
        Err(error) if target.is_dir() => {
            // An unfinished folder from elsewhere, without the library.
            tracing::debug!(%error, "Replacing an incomplete ONNX Runtime folder");
            std::fs::remove_dir_all(target).map_err(|e| unwritable(target, e))?;
            std::fs::rename(unpacked, target).map_err(|e| unwritable(target, e))?;
        }
        Err(error) => return Err(unwritable(target, error)),
    }
    if library.is_file() {
        return Ok(());
    }
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    Err(SetupError::Python { step: "unpack", reason: format!("the wheel holds no {name}") })
}

fn python<S: AsRef<OsStr>>(
    step: &'static str,
    arguments: impl IntoIterator<Item = S>,
) -> Result<(), SetupError> {
    let output = Command::new("python3")
        .args(arguments)
        .output()
        .map_err(|source| SetupError::NoPython { source })?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    let last =
        message.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no message");
    if last.ends_with("No module named pip") {
        return Err(SetupError::NoPip);
    }
    if message.contains("connection broken by") {
        return Err(SetupError::Offline);
    }
    Err(SetupError::Python { step, reason: last.to_owned() })
}

fn unwritable(path: &Path, source: std::io::Error) -> SetupError {
    SetupError::Files { path: path.to_owned(), source }
}

/// Why ONNX Runtime could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Only Linux on x86-64 and aarch64 is pinned, CUDA on x86-64 only.
    #[error(
        "no ONNX Runtime wheel for {provider} on {machine} is pinned; put a library of version {VERSION} in place by hand and name it in the configuration"
    )]
    NoWheel {
        /// Operating system and architecture.
        machine: String,
        /// The provider asked for.
        provider: &'static str,
    },
    /// No `python3` can be started.
    #[error("cannot start python3, which fetches ONNX Runtime; install Python 3 with pip")]
    NoPython {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Python without pip, as on a bare Debian.
    #[error(
        "python3 has no pip, which fetches ONNX Runtime; install it (on Debian: apt install python3-pip)"
    )]
    NoPip,
    /// pip cannot reach the package index.
    #[error(
        "the Python package index cannot be reached to download ONNX Runtime; connect this machine, or set PIP_INDEX_URL to an index it can reach"
    )]
    Offline,
    /// Python said no: unknown version, disk full.
    #[error("cannot {step} the ONNX Runtime wheel: {reason}")]
    Python {
        /// `download` or `unpack`.
        step: &'static str,
        /// The last line that Python wrote.
        reason: String,
    },
    /// The wheel is not the pinned one.
    #[error("wheel {name} has sha256 {found}, not the pinned {expected}")]
    WrongHash {
        /// The wheel's file name.
        name: String,
        /// The pinned hash.
        expected: String,
        /// The file's hash.
        found: String,
    },
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    Files {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Kind for SetupError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_wheel_whose_hash_is_not_the_pinned_one() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("onnxruntime.whl");
        std::fs::write(&file, b"not the wheel").expect("writable");
        let error = check_sha256(&file, WHEELS[0].sha256).expect_err("another file");
        assert!(error.to_string().starts_with("wheel onnxruntime.whl has sha256 "), "{error}");
        assert!(error.to_string().ends_with(WHEELS[0].sha256), "{error}");
    }

    #[test]
    fn does_nothing_when_the_library_is_there() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let library = library(folder.path(), Provider::Cpu);
        std::fs::create_dir_all(library.parent().expect("has a parent")).expect("writable");
        std::fs::write(&library, b"").expect("writable");
        let tell = |line: &str| panic!("nothing is to be done, but: {line}");
        let found = ensure(folder.path(), Provider::Cpu, &tell).expect("already there");
        assert_eq!(found, library);
    }

    #[test]
    fn unpacks_libraries_and_licences_and_nothing_else() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let wheel = folder.path().join("w.whl");
        let names = ["onnxruntime/capi/libonnxruntime.so.1", "onnxruntime/LICENSE", "x/other.py"];
        let make = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1], 'w')\n\
                    [z.writestr(n, n) for n in sys.argv[2:]]\nz.close()";
        let arguments = [OsStr::new("-c"), OsStr::new(make), wheel.as_os_str()];
        python("make", arguments.into_iter().chain(names.map(OsStr::new))).expect("python3");
        let target = folder.path().join("out");
        std::fs::create_dir(&target).expect("writable");
        unpack(&wheel, &target).expect("a good wheel");
        let mut found: Vec<_> = std::fs::read_dir(&target)
            .expect("readable")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        found.sort();
        assert_eq!(found, ["LICENSE", "libonnxruntime.so.1"]);
    }

    #[test]
    fn says_what_python_said_when_it_fails() {
        let error = python("download", ["-c", "import sys; sys.exit('no route to host')"])
            .expect_err("exit status 1");
        assert_eq!(error.to_string(), "cannot download the ONNX Runtime wheel: no route to host");
        let error = python("download", ["-m", "pip_is_not_here"]).expect_err("no such module");
        assert!(!matches!(error, SetupError::NoPip), "{error}");
    }
}
