//! Where the shared library is, and how a process comes to use it under the names it stands in for.
//!
//! The dynamic loader takes a library that is loaded already where the name fits one that it was opened by. So the library is
//! opened by its path, and then opens itself once by each name: its own search path leads to links beside it. Whoever opens
//! these names later gets it, and nothing changes for other processes.

use crate::Setting;
use crate::config;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

/// The file that cargo makes of this crate.
const FILE: &str = "libphalanx_softcuda.so";

/// The directory of links, beside [`FILE`]. `build.rs` has it in the library's search path.
const LINKS: &str = "softcuda";

/// The names under which the libraries are opened.
const NAMES: [&CStr; 6] =
    [c"libcuda.so", c"libcuda.so.1", c"libcublas.so", c"libcublas.so.12", c"libnccl.so", c"libnccl.so.2"];

/// Why the stand-ins are not in place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The shared library is in none of the directories where cargo leaves it.
    #[error("no {FILE} in {searched:?}")]
    NotBuilt {
        /// The directories.
        searched: Vec<PathBuf>,
    },
    /// A link could not be made.
    #[error("cannot link {link:?} to the library")]
    Link {
        /// The link.
        link: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The loader refuses the library.
    #[error("cannot load {library:?}: {reason:?}")]
    Load {
        /// The library.
        library: PathBuf,
        /// In the loader's words.
        reason: OsString,
    },
    /// Another library has one of the names in this process.
    #[error("this process has opened other libraries under the names of the stand-ins")]
    NamesTaken,
    /// A setting that the library does not know.
    #[error("the library refuses {variable}={value}")]
    Setting {
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
    },
}

/// The loaded library.
#[derive(Clone, Copy, Debug)]
pub struct Softcuda {
    set: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int,
    fault: unsafe extern "C" fn(*mut c_char, usize) -> usize,
}

/// Puts the stand-ins in place of the libraries in this process. Called again, it changes nothing.
///
/// # Errors
/// [`InstallError`] when the library is not there, or when real ones are open already.
pub fn install() -> Result<Softcuda, InstallError> {
    let file = locate()?;
    make_links(&file)?;
    let handle = open(&file)?;
    // SAFETY: symbols of this very crate, whose signatures are those of the functions below
    unsafe {
        let adopt: unsafe extern "C" fn(*mut c_void) -> c_int =
            std::mem::transmute(symbol(handle, c"phalanx_softcuda_adopt", &file)?);
        if adopt(handle) != 0 {
            return Err(InstallError::NamesTaken);
        }
        Ok(Softcuda {
            set: std::mem::transmute::<
                *mut c_void,
                unsafe extern "C" fn(*const c_char, *const c_char) -> c_int,
            >(symbol(handle, c"phalanx_softcuda_set", &file)?),
            fault: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_char, usize) -> usize>(
                symbol(handle, c"phalanx_softcuda_fault", &file)?,
            ),
        })
    }
}

impl Softcuda {
    /// Chooses a property of the machine. Before its first use: what exists already keeps what it was made with.
    ///
    /// # Errors
    /// [`InstallError::Setting`] when the value has a byte 0.
    pub fn set(&self, setting: &Setting) -> Result<(), InstallError> {
        let (variable, value) = setting.variable();
        if let (Ok(name), Ok(text)) = (CString::new(&*variable), CString::new(&*value)) {
            // SAFETY: two strings that end
            if unsafe { (self.set)(name.as_ptr(), text.as_ptr()) } == 0 {
                return Ok(());
            }
        }
        Err(InstallError::Setting { variable, value })
    }

    /// The last fault that this thread came upon, or else any, with kernel, block, thread and source line.
    pub fn fault(&self) -> Option<String> {
        let mut text = vec![0_u8; 4096];
        // SAFETY: at most `len` bytes are written
        let length = unsafe { (self.fault)(text.as_mut_ptr().cast(), text.len()) };
        text.truncate(length);
        (length > 0).then(|| String::from_utf8_lossy(&text).into_owned())
    }

    /// The value of `LD_LIBRARY_PATH` with which a program that is started finds the stand-ins.
    ///
    /// # Errors
    /// [`InstallError`] as for [`install`].
    pub fn library_path() -> Result<OsString, InstallError> {
        let file = locate()?;
        let mut value = make_links(&file)?.into_os_string();
        if let Some(rest) = env::var_os("LD_LIBRARY_PATH") {
            value.push(":");
            value.push(rest);
        }
        Ok(value)
    }
}

/// Tests lie in the directory of the library, programs above it, examples beside it. The documentation's tests lie elsewhere, but
/// cargo tells them where libraries are.
fn locate() -> Result<PathBuf, InstallError> {
    let mut searched = Vec::new();
    if let Ok(program) = env::current_exe()
        && let Some(dir) = program.parent()
    {
        searched.extend([dir.to_owned(), dir.join("deps"), dir.join("../deps")]);
    }
    if let Some(path) = env::var_os("LD_LIBRARY_PATH") {
        searched.extend(env::split_paths(&path));
    }
    let found = searched.iter().map(|dir| dir.join(FILE)).find(|file| file.exists());
    let found = found.and_then(|file| file.canonicalize().ok());
    found.ok_or(InstallError::NotBuilt { searched })
}

/// Makes what links are missing and returns their directory. Several processes may do so at once.
fn make_links(file: &Path) -> Result<PathBuf, InstallError> {
    let dir = file.with_file_name(LINKS);
    let failed = |link: &Path| {
        let link = link.to_owned();
        |source| InstallError::Link { link, source }
    };
    fs::create_dir_all(&dir).map_err(failed(&dir))?;
    let target = Path::new("..").join(FILE);
    for name in NAMES {
        let link = dir.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        if fs::read_link(&link).is_ok_and(|found| found == target) {
            continue;
        }
        let new = link.with_extension(format!("new.{}", process::id()));
        std::os::unix::fs::symlink(&target, &new).map_err(failed(&new))?;
        fs::rename(&new, &link).map_err(failed(&link))?;
    }
    Ok(dir)
}

/// Opens the library at a path.
fn open(file: &Path) -> Result<*mut c_void, InstallError> {
    let path = CString::new(file.as_os_str().as_bytes()).unwrap_or_default();
    // SAFETY: the initialisers of this library are those of Rust's standard library
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() { Err(refused(file)) } else { Ok(handle) }
}

fn symbol(handle: *mut c_void, name: &CStr, file: &Path) -> Result<*mut c_void, InstallError> {
    // SAFETY: a handle that is never closed, and a string that ends
    let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
    if address.is_null() { Err(refused(file)) } else { Ok(address) }
}

/// The last error of the loader.
fn refused(file: &Path) -> InstallError {
    // SAFETY: the text lives until the loader's next call on this thread
    let reason = unsafe {
        let text = libc::dlerror();
        if text.is_null() { &[][..] } else { CStr::from_ptr(text).to_bytes() }
    };
    InstallError::Load { library: file.to_owned(), reason: std::ffi::OsStr::from_bytes(reason).to_owned() }
}

/// Opens the library by all names, from inside it, since the loader follows the search path of the caller. Not 0 where a name
/// leads elsewhere.
///
/// # Safety
/// None; the handle is only compared.
#[unsafe(no_mangle)]
unsafe extern "C" fn phalanx_softcuda_adopt(handle: *mut c_void) -> c_int {
    let mut elsewhere = 0;
    for name in NAMES {
        // SAFETY: a string that ends
        let found = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        elsewhere += c_int::from(found != handle);
    }
    elsewhere
}

/// [`Softcuda::set`] inside the library.
///
/// # Safety
/// Both are strings that end.
#[unsafe(no_mangle)]
unsafe extern "C" fn phalanx_softcuda_set(variable: *const c_char, value: *const c_char) -> c_int {
    // SAFETY: as the caller promises
    let (variable, value) = unsafe { (CStr::from_ptr(variable), CStr::from_ptr(value)) };
    let known = match (variable.to_str(), value.to_str()) {
        (Ok(variable), Ok(value)) => config::apply(variable, value),
        _ => false,
    };
    c_int::from(!known)
}

/// [`Softcuda::fault`] inside the library.
///
/// # Safety
/// `text` has room for `capacity` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn phalanx_softcuda_fault(text: *mut c_char, capacity: usize) -> usize {
    let fault = crate::fault::last().unwrap_or_default();
    let length = fault.len().min(capacity);
    // SAFETY: as the caller promises
    unsafe { text.copy_from_nonoverlapping(fault.as_ptr().cast(), length) };
    length
}
