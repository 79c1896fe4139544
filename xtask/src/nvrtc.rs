//! NVIDIA's compiler for kernels, a library: it comes as a Python package and needs neither a GPU nor a toolkit.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

use anyhow::{Context as _, Result, bail};
use libloading::Library;

/// A program of NVRTC.
type Program = *mut c_void;

type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Bytes = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
type Text = unsafe extern "C" fn(c_int) -> *const c_char;

/// The library, opened.
pub(crate) struct Nvrtc {
    opened: Library,
    /// What it loads by name when it compiles, which is beside it and nowhere that the loader looks.
    _builtins: Library,
}

/// What a compilation gives.
pub(crate) struct Compiled {
    pub(crate) ptx: Vec<u8>,
    /// Empty for a virtual architecture.
    pub(crate) cubin: Vec<u8>,
    pub(crate) log: String,
}

impl Nvrtc {
    /// Opens the library in a directory.
    pub(crate) fn open(place: &Path) -> Result<Self> {
        let open = |name: &str| {
            let file = place.join(name);
            // SAFETY: NVIDIA's library, whose initialisers only fill tables.
            unsafe { Library::new(&file) }.with_context(|| format!("opening {}", file.display()))
        };
        Ok(Nvrtc { _builtins: open("libnvrtc-builtins.so.12.9")?, opened: open("libnvrtc.so.12")? })
    }

    /// Major and minor version.
    pub(crate) fn version(&self) -> Result<(i32, i32)> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the signature is that of nvrtc.h; it writes two numbers.
        let code = unsafe { self.opened.get::<Version>(b"nvrtcVersion\0")?(&raw mut major, &raw mut minor) };
        self.success("nvrtcVersion", code)?;
        Ok((major, minor))
    }

    /// Compiles a source, which may include the `files`, given by name and text.
    pub(crate) fn compile(
        &self,
        source: &str,
        files: &[(String, String)],
        options: &[&str],
    ) -> Result<Compiled> {
        let source = CString::new(source)?;
        let strings =
            |all: &mut dyn Iterator<Item = &str>| all.map(CString::new).collect::<Result<Vec<_>, _>>();
        let names = strings(&mut files.iter().map(|(name, _)| name.as_str()))?;
        let texts = strings(&mut files.iter().map(|(_, text)| text.as_str()))?;
        let options = strings(&mut options.iter().copied())?;
        let pointers = |all: &[CString]| all.iter().map(|s| s.as_ptr()).collect::<Vec<_>>();
        let (names, texts, flags) = (pointers(&names), pointers(&texts), pointers(&options));
        let mut program: Program = ptr::null_mut();
        // SAFETY: the signature is that of nvrtc.h; the strings and both lists live until the call returns.
        let code = unsafe {
            self.opened.get::<Create>(b"nvrtcCreateProgram\0")?(
                &raw mut program,
                source.as_ptr(),
                c"kernels.cu".as_ptr(),
                c_int::try_from(files.len())?,
                texts.as_ptr(),
                names.as_ptr(),
            )
        };
        self.success("nvrtcCreateProgram", code)?;
        let compiled = self.run(program, &flags);
        // SAFETY: the program was created above and is not used any more.
        let code = unsafe { self.opened.get::<Destroy>(b"nvrtcDestroyProgram\0")?(&raw mut program) };
        self.success("nvrtcDestroyProgram", code).and(compiled)
    }

    fn run(&self, program: Program, flags: &[*const c_char]) -> Result<Compiled> {
        let count = c_int::try_from(flags.len())?;
        // SAFETY: the signature is that of nvrtc.h; the options live until the call returns.
        let code =
            unsafe { self.opened.get::<Compile>(b"nvrtcCompileProgram\0")?(program, count, flags.as_ptr()) };
        let log = self.bytes(program, b"nvrtcGetProgramLogSize\0", b"nvrtcGetProgramLog\0")?;
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
        self.success("nvrtcCompileProgram", code).with_context(|| log.clone())?;
        let mut ptx = self.bytes(program, b"nvrtcGetPTXSize\0", b"nvrtcGetPTX\0")?;
        if ptx.last() == Some(&0) {
            ptx.pop();
        }
        let cubin = self.bytes(program, b"nvrtcGetCUBINSize\0", b"nvrtcGetCUBIN\0")?;
        Ok(Compiled { ptx, cubin, log })
    }

    /// What a pair of functions for a size and as many bytes gives.
    fn bytes(&self, program: Program, size: &[u8], get: &[u8]) -> Result<Vec<u8>> {
        let mut len = 0;
        // SAFETY: the signature is that of nvrtc.h; it writes one number.
        let code = unsafe { self.opened.get::<Size>(size)?(program, &raw mut len) };
        self.success("the size of a result", code)?;
        let mut bytes = vec![0_u8; len];
        if len > 0 {
            // SAFETY: as above; it writes as many bytes as it said.
            let code = unsafe { self.opened.get::<Bytes>(get)?(program, bytes.as_mut_ptr().cast()) };
            self.success("a result", code)?;
        }
        Ok(bytes)
    }

    fn success(&self, call: &str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the signature is that of nvrtc.h; the text is static.
        let text = unsafe { CStr::from_ptr(self.opened.get::<Text>(b"nvrtcGetErrorString\0")?(code)) };
        bail!("{call}: {}", text.to_string_lossy())
    }
}
