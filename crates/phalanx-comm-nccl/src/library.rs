//! The library: opened at run time, its functions in a table.

use crate::error::NcclError;
use cudarc::nccl::sys;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// The names of the library, in the order in which they are tried: the packages of NCCL have the first one only.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];

/// The oldest version that takes the configuration of [`handle`](crate::handle), and that has read all its arguments when
/// a call which does not block returns.
const OLDEST: NcclVersion = NcclVersion(21_800);

/// NCCL's code for success.
pub(crate) const SUCCESS: u32 = 0;
/// NCCL's code for what goes on in the background.
pub(crate) const IN_PROGRESS: u32 = 7;

/// A version of NCCL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NcclVersion(u32);

impl NcclVersion {
    /// From the number that `ncclGetVersion` gives.
    #[must_use]
    pub const fn from_code(code: u32) -> Self {
        Self(code)
    }

    /// The number that `ncclGetVersion` gives.
    #[must_use]
    pub const fn code(self) -> u32 {
        self.0
    }
}

impl fmt::Display for NcclVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.0;
        // up to 2.8, the minor version had one digit
        let (major, rest) =
            if code < 10_000 { (code / 1000, code % 1000) } else { (code / 10_000, code % 10_000) };
        write!(f, "{major}.{}.{}", rest / 100, rest % 100)
    }
}

/// Declares the table: a field a function, with the name that the library has it under. What NCCL returns is a number
/// here and no enumeration, since a newer library may return one that is not in it.
macro_rules! functions {
    ($($field:ident = $symbol:literal ($($arg:ty),*) -> $ret:ty;)*) => {
        pub(crate) struct Functions {
            $(pub(crate) $field: unsafe extern "C" fn($($arg),*) -> $ret,)*
        }

        impl Functions {
            fn of(library: &libloading::Library, name: &Arc<str>) -> Result<Self, NcclError> {
                $(
                    // SAFETY: the type is that of nccl.h, whose functions keep theirs in all versions
                    let $field = unsafe {
                        library.get::<unsafe extern "C" fn($($arg),*) -> $ret>(concat!($symbol, "\0").as_bytes())
                    };
                )*
                let missing = |function| move |_| NcclError::NoFunction { library: Arc::clone(name), function };
                Ok(Self { $($field: *$field.map_err(missing($symbol))?,)* })
            }
        }
    };
}

functions! {
    get_version = "ncclGetVersion"(*mut c_int) -> u32;
    get_unique_id = "ncclGetUniqueId"(*mut sys::ncclUniqueId) -> u32;
    error_string = "ncclGetErrorString"(u32) -> *const c_char;
    last_error = "ncclGetLastError"(sys::ncclComm_t) -> *const c_char;
    init_rank_config = "ncclCommInitRankConfig"(
        *mut sys::ncclComm_t, c_int, sys::ncclUniqueId, c_int, *mut c_void
    ) -> u32;
    async_error = "ncclCommGetAsyncError"(sys::ncclComm_t, *mut u32) -> u32;
    finalize = "ncclCommFinalize"(sys::ncclComm_t) -> u32;
    destroy = "ncclCommDestroy"(sys::ncclComm_t) -> u32;
    abort = "ncclCommAbort"(sys::ncclComm_t) -> u32;
    all_reduce = "ncclAllReduce"(
        *const c_void, *mut c_void, usize, u32, u32, sys::ncclComm_t, sys::cudaStream_t
    ) -> u32;
    reduce_scatter = "ncclReduceScatter"(
        *const c_void, *mut c_void, usize, u32, u32, sys::ncclComm_t, sys::cudaStream_t
    ) -> u32;
    all_gather = "ncclAllGather"(
        *const c_void, *mut c_void, usize, u32, sys::ncclComm_t, sys::cudaStream_t
    ) -> u32;
    broadcast = "ncclBroadcast"(
        *const c_void, *mut c_void, usize, u32, c_int, sys::ncclComm_t, sys::cudaStream_t
    ) -> u32;
    send = "ncclSend"(*const c_void, usize, u32, c_int, sys::ncclComm_t, sys::cudaStream_t) -> u32;
    receive = "ncclRecv"(*mut c_void, usize, u32, c_int, sys::ncclComm_t, sys::cudaStream_t) -> u32;
    group_start = "ncclGroupStart"() -> u32;
    group_end = "ncclGroupEnd"() -> u32;
}

/// NCCL, as this machine has it.
pub struct NcclLibrary {
    name: Arc<str>,
    version: NcclVersion,
    pub(crate) functions: Functions,
    /// Keeps the functions.
    _library: libloading::Library,
}

impl fmt::Debug for NcclLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NcclLibrary").field("name", &self.name).field("version", &self.version).finish()
    }
}

impl NcclLibrary {
    /// The library of this process, opened when it is first asked for.
    ///
    /// # Errors
    /// [`NcclError::NoLibrary`], [`NcclError::NoFunction`] and [`NcclError::TooOld`]; the same again each time.
    pub fn get() -> Result<&'static Self, NcclError> {
        static LIBRARY: OnceLock<Result<NcclLibrary, NcclError>> = OnceLock::new();
        LIBRARY.get_or_init(|| Self::open(&NAMES)).as_ref().map_err(Clone::clone)
    }

    /// Opens the first library that one of `names` leads to.
    fn open(names: &[&str]) -> Result<Self, NcclError> {
        let mut cause: Arc<str> = "".into();
        for name in names {
            // SAFETY: opening NCCL runs its initialisers, which are made to be run so
            match unsafe { libloading::Library::new(*name) } {
                Ok(library) => return Self::of(library, &(*name).into()),
                Err(error) => cause = error.to_string().into(),
            }
        }
        Err(NcclError::NoLibrary { tried: names.iter().map(|name| (*name).to_owned()).collect(), cause })
    }

    fn of(library: libloading::Library, name: &Arc<str>) -> Result<Self, NcclError> {
        let functions = Functions::of(&library, name)?;
        let mut code = 0;
        // SAFETY: a place for one number
        let returned = unsafe { (functions.get_version)(&raw mut code) };
        let version = NcclVersion(u32::try_from(code).unwrap_or(0));
        let library = Self { name: Arc::clone(name), version, functions, _library: library };
        library.check("ncclGetVersion", returned)?;
        if version < OLDEST {
            return Err(NcclError::TooOld { library: Arc::clone(name), got: version, need: OLDEST });
        }
        Ok(library)
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> NcclVersion {
        self.version
    }

    /// A new unique id, which ranks that make one communicator share. The process that makes it is where they meet.
    pub(crate) fn unique_id(&self) -> Result<[u8; 128], NcclError> {
        let mut id = sys::ncclUniqueId { internal: [0; 128] };
        // SAFETY: a place for one id
        self.check("ncclGetUniqueId", unsafe { (self.functions.get_unique_id)(&raw mut id) })?;
        Ok(id.internal.map(c_char::cast_unsigned))
    }

    /// Whether a call that concerns no communicator did what it should.
    pub(crate) fn check(&self, function: &'static str, code: u32) -> Result<(), NcclError> {
        if code == SUCCESS { Ok(()) } else { Err(self.error(function, code, std::ptr::null_mut())) }
    }

    /// What `function` means by `code`; `comm` may be null.
    pub(crate) fn error(&self, function: &'static str, code: u32, comm: sys::ncclComm_t) -> NcclError {
        // SAFETY: any number is answered by a string that is never freed
        let general = unsafe { text((self.functions.error_string)(code)) };
        // SAFETY: null, or a communicator that is neither destroyed nor aborted; the text lives until the next call
        let last = unsafe { text((self.functions.last_error)(comm)) };
        let text = match (general.is_empty(), last.is_empty()) {
            (_, true) => general,
            (true, false) => last,
            (false, false) => format!("{general}: {last}"),
        };
        NcclError::Call { function, code, name: name_of(code), text: text.into() }
    }
}

/// The name of a code in nccl.h.
const fn name_of(code: u32) -> &'static str {
    match code {
        SUCCESS => "ncclSuccess",
        1 => "ncclUnhandledCudaError",
        2 => "ncclSystemError",
        3 => "ncclInternalError",
        4 => "ncclInvalidArgument",
        5 => "ncclInvalidUsage",
        6 => "ncclRemoteError",
        IN_PROGRESS => "ncclInProgress",
        8 => "ncclTimeout",
        _ => "a code of a newer NCCL",
    }
}

/// A text of the library, which may be none.
///
/// # Safety
/// `text` is null or a string that ends.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_an_error_with_the_names_tried() {
        let names = ["libnccl-of-no-machine.so.2", "libnccl-of-no-machine.so"];
        let error = NcclLibrary::open(&names).unwrap_err();
        let told = error.to_string();
        assert!(matches!(&error, NcclError::NoLibrary { tried, .. } if *tried == names), "{error:?}");
        assert!(told.contains("tried libnccl-of-no-machine.so.2, libnccl-of-no-machine.so: "), "{told}");
    }

    #[test]
    fn a_library_without_the_functions_is_an_error_with_the_first() {
        let error = NcclLibrary::open(&["libm.so.6"]).unwrap_err();
        let need = NcclError::NoFunction { library: "libm.so.6".into(), function: "ncclGetVersion" };
        assert_eq!(error, need);
    }

    #[test]
    fn versions_read_as_those_of_the_packages() {
        let told = [22_705, 21_700, 2_804].map(|code| NcclVersion::from_code(code).to_string());
        assert_eq!(told, ["2.27.5", "2.17.0", "2.8.4"]);
    }
}
