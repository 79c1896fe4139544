//! Numbers on a device, whichever it is, and comparisons of what two devices made of them.

use phalanx_cuda::Cuda;
use phalanx_tensor::rng::{Purpose, Stream};
use phalanx_tensor::{Memory, Write};
use std::sync::OnceLock;

/// Both ways to write.
pub(crate) const WRITES: [Write; 2] = [Write::Set, Write::Add];

/// None, one, a warp and a block with one less and one more, and what is a multiple of nothing.
pub(crate) const LENGTHS: [usize; 9] = [0, 1, 31, 32, 33, 255, 256, 257, 1001];

/// Device 0, of the stand-ins unless the environment asks for the real one.
pub(crate) fn gpu() -> Cuda {
    static GPU: OnceLock<Cuda> = OnceLock::new();
    let open = || {
        if std::env::var_os("PHALANX_GPU").is_none() {
            phalanx_softcuda::install().expect("the stand-ins are built with the tests");
        }
        Cuda::open(0).unwrap_or_else(|error| panic!("{error}"))
    };
    GPU.get_or_init(open).clone()
}

/// Runs an expression on the CPU and on the device: what the CPU has, and what the device has.
macro_rules! both {
    (|$b:ident| $body:expr) => {{
        let want = {
            let $b = &phalanx_tensor::Cpu::<f32>::new();
            $body
        };
        let got = {
            let $b = &crate::held::gpu();
            let got = $body;
            phalanx_tensor::Backend::check($b).expect("the device is well");
            got
        };
        (want, got)
    }};
}
pub(crate) use both;

/// A buffer with its device.
pub(crate) struct Held<B: Memory<Elem = f32>> {
    backend: B,
    buf: B::Buf,
    len: usize,
}

impl<B: Memory<Elem = f32>> Held<B> {
    pub(crate) fn new(backend: &B, numbers: &[f32]) -> Self {
        let len = numbers.len();
        let mut buf = backend.alloc(len).expect("memory");
        backend.upload(numbers, backend.view_mut(&mut buf, 0..len));
        Held { backend: backend.clone(), buf, len }
    }

    pub(crate) fn view(&self) -> B::View<'_> {
        self.backend.view(&self.buf, 0..self.len)
    }

    pub(crate) fn write(&mut self) -> B::ViewMut<'_> {
        self.backend.view_mut(&mut self.buf, 0..self.len)
    }

    pub(crate) fn get(&self) -> Vec<f32> {
        let mut host = vec![0.0; self.len];
        self.backend.download(self.view(), &mut host);
        host
    }
}

/// Indices with their device.
pub(crate) struct Ids<B: Memory> {
    backend: B,
    buf: B::Index,
    len: usize,
}

impl<B: Memory> Ids<B> {
    pub(crate) fn new(backend: &B, ids: &[u32]) -> Self {
        let len = ids.len();
        let mut buf = backend.alloc_index(len).expect("memory");
        backend.upload_index(ids, backend.index_view_mut(&mut buf, 0..len));
        Ids { backend: backend.clone(), buf, len }
    }

    pub(crate) fn view(&self) -> B::IndexView<'_> {
        self.backend.index_view(&self.buf, 0..self.len)
    }

    pub(crate) fn write(&mut self) -> B::IndexViewMut<'_> {
        self.backend.index_view_mut(&mut self.buf, 0..self.len)
    }

    pub(crate) fn get(&self) -> Vec<u32> {
        let mut host = vec![0; self.len];
        self.backend.download_index(self.view(), &mut host);
        host
    }
}

/// Draws from N(0, 1), others for each salt.
pub(crate) fn normals(len: usize, salt: u64) -> Vec<f32> {
    let mut x = vec![0.0; len];
    Stream::new(6, Purpose::User(6), salt).fill_normal(&mut x);
    x
}

/// Indices below `n`.
pub(crate) fn ids(len: usize, n: u64, salt: u64) -> Vec<u32> {
    let stream = Stream::new(6, Purpose::User(7), salt);
    (0..len as u64).map(|i| u32::try_from(stream.below(i, n)).expect("a small number")).collect()
}

/// The same bits; any NaN is as good as another.
#[track_caller]
pub(crate) fn assert_bits(what: &str, (want, got): (Vec<f32>, Vec<f32>)) {
    assert_eq!(want.len(), got.len(), "{what}");
    for (i, (want, got)) in want.iter().zip(&got).enumerate() {
        let same = want.to_bits() == got.to_bits() || (want.is_nan() && got.is_nan());
        assert!(same, "{what}, element {i}: {got} for {want}");
    }
}

/// At most `tolerance (1 + |want|)` apart; NaN and infinities at the same places.
#[track_caller]
pub(crate) fn assert_close(what: &str, tolerance: f32, (want, got): (Vec<f32>, Vec<f32>)) {
    assert_eq!(want.len(), got.len(), "{what}");
    for (i, (want, got)) in want.iter().zip(&got).enumerate() {
        let near = (want - got).abs() <= tolerance * (1.0 + want.abs());
        let same = want == got || (want.is_nan() && got.is_nan());
        assert!(near || same, "{what}, element {i}: {got} for {want}");
    }
}

/// As [`assert_close`], for numbers of the host.
#[track_caller]
pub(crate) fn assert_close_f64(what: &str, tolerance: f64, (want, got): (Vec<f64>, Vec<f64>)) {
    assert_eq!(want.len(), got.len(), "{what}");
    for (i, (want, got)) in want.iter().zip(&got).enumerate() {
        assert!(
            (want - got).abs() <= tolerance * (1.0 + want.abs()),
            "{what}, element {i}: {got} for {want}"
        );
    }
}
