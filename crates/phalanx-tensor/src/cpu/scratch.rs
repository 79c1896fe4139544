//! Work space of a kernel: a few vectors a thread that grow to the largest need and stay.

use super::AlignedBuf;
use bytemuck::Pod;
use std::any::Any;
use std::cell::RefCell;

thread_local! {
    static FREE: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// Work space of at least `len` elements, content unspecified; goes back to the thread's store when dropped.
pub(super) struct Scratch<T: Pod> {
    buf: Option<Box<AlignedBuf<T>>>,
    len: usize,
}

impl<T: Pod> Scratch<T> {
    /// Takes the first kept buffer of this element type that is long enough, else grows one.
    ///
    /// # Panics
    /// When the allocator refuses, as any small allocation does.
    #[expect(clippy::expect_used, reason = "kernels cannot fail; their work space is small")]
    pub(super) fn take(len: usize) -> Self {
        let found = FREE.with_borrow_mut(|free| {
            let fits =
                |held: &Box<dyn Any>| held.downcast_ref::<AlignedBuf<T>>().is_some_and(|b| b.len() >= len);
            let any = |held: &Box<dyn Any>| held.is::<AlignedBuf<T>>();
            let at = free.iter().position(fits).or_else(|| free.iter().position(any))?;
            free.swap_remove(at).downcast::<AlignedBuf<T>>().ok()
        });
        let buf = match found {
            Some(buf) if buf.len() >= len => buf,
            _ => Box::new(AlignedBuf::zeroed(len).expect("work space of a kernel")),
        };
        Scratch { buf: Some(buf), len }
    }

    /// The work space.
    pub(super) fn get(&mut self) -> &mut [T] {
        match &mut self.buf {
            Some(buf) => &mut buf[..self.len],
            None => &mut [],
        }
    }
}

impl<T: Pod> Drop for Scratch<T> {
    fn drop(&mut self) {
        if let Some(buf) = self.buf.take() {
            // Fails only while the thread ends; the buffer is then simply freed.
            FREE.try_with(|free| free.borrow_mut().push(buf)).unwrap_or_default();
        }
    }
}
