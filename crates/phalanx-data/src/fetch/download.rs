//! One file over HTTP: resumed, patient, checked.

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use ureq::Agent;
use ureq::http::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderValue, RANGE};
use ureq::tls::{RootCerts, TlsConfig};

use crate::fetch::checksum::Checksum;
use crate::fetch::error::FetchError;
use crate::fetch::part::Part;
use crate::fetch::{FetchOptions, Progress};

/// Downloads a file to `to`, by way of `to` with `.part` appended.
///
/// A transfer that breaks off, stalls or is refused for now is taken up again where it stopped,
/// after a pause; only failures without progress count against `options.attempts`. A server that
/// cannot start in the middle sends all again. Of `options`, only the last three fields matter here.
///
/// # Errors
/// [`FetchError`]. A partial file stays for the next call, unless it is known to be wrong.
pub fn download(
    url: &str,
    to: &Path,
    checksum: Checksum,
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), FetchError> {
    let part = Part::resume(to)?;
    let mut transfer = Transfer { agent: agent(options), url, checksum, options, part: &part, progress };
    match transfer.until_right() {
        Ok(()) => part.finish(),
        Err(error) => {
            let keep = error.is_transient() || matches!(error, FetchError::Io { .. });
            if !(keep && part.len()? > 0) {
                part.remove()?;
            }
            Err(error)
        }
    }
}

/// A request is given up after this long however steadily it flows, and goes on by another: it
/// bounds the life of a reader whose server fell silent.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const CHUNK: usize = 1 << 16;

fn agent(options: &FetchOptions) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("phalanx/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(options.stall))
        .timeout_recv_response(Some(options.stall))
        .timeout_recv_body(Some(LONGEST_REQUEST))
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .build()
        .into()
}

struct Transfer<'a> {
    agent: Agent,
    url: &'a str,
    checksum: Checksum,
    options: &'a FetchOptions,
    part: &'a Part,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Transfer<'_> {
    fn until_right(&mut self) -> Result<(), FetchError> {
        if self.part.len()? > 0 && self.mismatch()?.is_none() {
            return Ok(());
        }
        let mut furthest = self.part.len()?;
        let mut failures = 0;
        loop {
            let resumed = self.part.len()? > 0;
            let error = match self.request() {
                Ok(()) => match self.mismatch()? {
                    None => return Ok(()),
                    Some(got) => {
                        let need = self.checksum.need();
                        let error = FetchError::Checksum { url: self.url.to_owned(), got, need };
                        if !resumed {
                            return Err(error);
                        }
                        // what an earlier attempt left may be the start of another file
                        self.part.clear()?;
                        error
                    }
                },
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            let reached = self.part.len()?;
            failures = if reached > furthest { 1 } else { failures + 1 };
            furthest = furthest.max(reached);
            if failures >= self.options.attempts {
                return Err(error);
            }
            let pause = self.options.backoff.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_PAUSE);
            tracing::warn!(%error, bytes = reached, ?pause, "download interrupted");
            thread::sleep(pause);
        }
    }

    fn mismatch(&self) -> Result<Option<String>, FetchError> {
        self.checksum.mismatch(self.part.path()).map_err(self.part.io("read"))
    }

    /// Asks for what is missing and appends what comes.
    fn request(&mut self) -> Result<(), FetchError> {
        let url = || self.url.to_owned();
        let mut from = self.part.len()?;
        let mut request = self.agent.get(self.url).header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response =
            request.call().map_err(|source| FetchError::Request { url: url(), source: source.into() })?;
        match response.status().as_u16() {
            200 => {
                // also from a server that knows nothing of ranges
                self.part.clear()?;
                from = 0;
            }
            206 => {
                let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
                let range = range.unwrap_or_default();
                if !range.starts_with(&format!("bytes {from}-")) {
                    let got = range.chars().take(80).collect();
                    self.part.clear()?;
                    return Err(FetchError::Range { url: url(), got, need: from });
                }
            }
            // nothing after what is there: the checksum decides
            416 if from > 0 => return Ok(()),
            status => return Err(FetchError::Status { url: url(), status }),
        }

        let announced = content_length(response.headers()).map(|len| from.saturating_add(len));
        let limit = self.checksum.most_bytes();
        if let Some(got) = announced.filter(|total| *total > limit) {
            return Err(FetchError::Length { url: url(), got, need: limit });
        }
        if let (Some(got), Some(need)) = (announced, self.checksum.file_len())
            && got < need
        {
            return Err(FetchError::Length { url: url(), got, need });
        }
        let total = announced.or(self.checksum.file_len());
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let done = self.append(&in_background(body), from, total)?;
        match total.filter(|need| done < *need) {
            Some(need) => Err(FetchError::Truncated { url: self.url.to_owned(), got: done, need }),
            None => Ok(()),
        }
    }

    /// Writes what arrives until the sender closes; the length of the partial file then.
    fn append(
        &mut self,
        body: &Receiver<io::Result<Vec<u8>>>,
        from: u64,
        total: Option<u64>,
    ) -> Result<u64, FetchError> {
        let url = || self.url.to_owned();
        let file = self.url.rsplit('/').next().unwrap_or_default();
        let limit = self.checksum.most_bytes();
        let mut done = from;
        (self.progress)(Progress { file, done, total });
        loop {
            let bytes = match body.recv_timeout(self.options.stall) {
                Ok(Ok(bytes)) => bytes,
                Ok(Err(source)) => return Err(FetchError::Broken { url: url(), got: done, source }),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(FetchError::Stalled { url: url(), waited: self.options.stall, got: done });
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(done),
            };
            if done + bytes.len() as u64 > limit {
                return Err(FetchError::Length { url: url(), got: done + bytes.len() as u64, need: limit });
            }
            self.part.append(&bytes)?;
            done += bytes.len() as u64;
            (self.progress)(Progress { file, done, total });
        }
    }
}

fn content_length(headers: &ureq::http::HeaderMap<HeaderValue>) -> Option<u64> {
    headers.get(ureq::http::header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Reads in a thread of its own, since a blocked read can't be waited for with a time limit that
/// starts anew with each byte. The thread ends with the body, at the next chunk that nobody takes,
/// or with [`LONGEST_REQUEST`].
fn in_background(mut body: impl Read + Send + 'static) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = sync_channel(4);
    thread::spawn(move || {
        loop {
            let mut chunk = vec![0; CHUNK];
            let sent = match body.read(&mut chunk) {
                Ok(0) => return,
                Ok(read) => {
                    chunk.truncate(read);
                    sender.send(Ok(chunk))
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // the last word either way: nobody may be listening any more
                    drop(sender.send(Err(error)));
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
        }
    });
    receiver
}
