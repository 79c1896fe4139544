//! Downloads from a server of our own that does everything a server should not.
#![cfg(feature = "fetch")]
#![expect(clippy::unwrap_used, reason = "functions that tests call are tests")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use phalanx_data::fetch::{Checksum, FetchError, FetchOptions, Origin, Progress, SETS, download, fetch};
use sha2::{Digest, Sha256};

/// What the server does with one request.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Answers as it should, ranges included.
    Serve,
    /// Closes the connection after so many bytes of the body.
    Truncate(usize),
    /// The same, having announced no length: the end looks like the end.
    TruncateSilently(usize),
    /// Sends so many bytes and then nothing, with the connection open.
    Stall(usize),
    /// Changes the last byte.
    Corrupt,
    /// Sends everything, with status 200, whatever was asked for.
    IgnoreRange,
    /// Sends everything as if it were the part asked for.
    WrongRange,
    /// Answers with a status and no more.
    Status(u16),
    /// Announces one byte more than there is, and sends it.
    TooLong,
    /// Sends one byte less than there is, and says so.
    TooShort,
    /// Sends without end.
    Endless,
}

/// Serves `body` at any path; one act a request, the last one for all further requests.
struct Server {
    url: String,
    ranges: Arc<Mutex<Vec<Option<u64>>>>,
}

impl Server {
    fn start(body: Vec<u8>, acts: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/folder", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let (seen, acts) = (Arc::clone(&ranges), acts.to_vec());
        thread::spawn(move || {
            for (n, stream) in listener.incoming().enumerate() {
                let act = acts[n.min(acts.len() - 1)];
                let (seen, body) = (Arc::clone(&seen), body.clone());
                // a client that hangs up is the client's affair
                thread::spawn(move || drop(answer(stream.unwrap(), act, &body, &seen)));
            }
        });
        Self { url, ranges }
    }

    /// First byte asked for, for each request so far.
    fn ranges(&self) -> Vec<Option<u64>> {
        self.ranges.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: TcpStream,
    act: Act,
    body: &[u8],
    seen: &Mutex<Vec<Option<u64>>>,
) -> std::io::Result<()> {
    let mut from = None;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    seen.lock().unwrap().push(from);
    let start = from.map_or(0, |from| usize::try_from(from).unwrap());
    let head = |status: &str, len: usize| {
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len}\r\nContent-Range: bytes {start}-/*\r\n\r\n"
        )
    };
    if start >= body.len() {
        return stream.write_all(head("416 Range Not Satisfiable", 0).as_bytes());
    }
    let ok = if from.is_some() { "206 Partial Content" } else { "200 OK" };
    let rest = &body[start..];
    let mut send = |head: &str, parts: &[&[u8]]| -> std::io::Result<()> {
        stream.write_all(head.as_bytes())?;
        parts.iter().try_for_each(|part| stream.write_all(part))
    };
    match act {
        Act::Serve => send(&head(ok, rest.len()), &[rest]),
        Act::Truncate(len) => send(&head(ok, rest.len()), &[&rest[..len.min(rest.len())]]),
        Act::TruncateSilently(len) => send(
            &format!("HTTP/1.1 {ok}\r\nConnection: close\r\nContent-Range: bytes {start}-/*\r\n\r\n"),
            &[&rest[..len.min(rest.len())]],
        ),
        Act::Stall(len) => {
            send(&head(ok, rest.len()), &[&rest[..len.min(rest.len())]])?;
            thread::sleep(Duration::from_secs(20));
            Ok(())
        }
        Act::Corrupt => {
            let (last, before) = rest.split_last().unwrap();
            send(&head(ok, rest.len()), &[before, &[last ^ 1]])
        }
        Act::IgnoreRange => send(&head("200 OK", body.len()), &[body]),
        Act::WrongRange => {
            send(&format!("HTTP/1.1 {ok}\r\nConnection: close\r\nContent-Range: bytes 0-/*\r\n\r\n"), &[body])
        }
        Act::Status(status) => send(&head(&format!("{status} No"), 0), &[]),
        Act::TooLong => send(&head(ok, rest.len() + 1), &[rest, b"x"]),
        Act::TooShort => send(&head(ok, rest.len() - 1), &[&rest[..rest.len() - 1]]),
        Act::Endless => {
            stream.write_all(format!("HTTP/1.1 {ok}\r\nConnection: close\r\n\r\n").as_bytes())?;
            loop {
                stream.write_all(body)?;
            }
        }
    }
}

/// 300 kB, several chunks of the client, without a period that would hide a shift.
fn body() -> Vec<u8> {
    (0..300_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn checksum(bytes: &[u8]) -> Checksum {
    let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Checksum::Plain { len: bytes.len() as u64, sha256: sha256.leak() }
}

struct Download {
    folder: tempfile::TempDir,
    server: Server,
    options: FetchOptions,
}

impl Download {
    fn new(acts: &[Act]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = FetchOptions {
            attempts: 3,
            backoff: Duration::from_millis(1),
            stall: Duration::from_millis(500),
            ..FetchOptions::new(folder.path())
        };
        Self { folder, server: Server::start(body(), acts), options }
    }

    fn to(&self) -> PathBuf {
        self.folder.path().join("file.bin")
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("file.bin.part")
    }

    fn run(&self) -> Result<(), FetchError> {
        let url = format!("{}/file.bin", self.server.url);
        download(&url, &self.to(), checksum(&body()), &self.options, &mut |_| {})
    }

    /// The file arrived, and nothing else is left.
    fn assert_right(&self) {
        assert_eq!(fs::read(self.to()).unwrap(), body());
        assert!(!self.part().exists());
    }

    /// No file, no partial file.
    fn assert_nothing_left(&self) {
        assert!(!self.to().exists() && !self.part().exists());
    }
}

#[test]
fn a_plain_download_reports_its_progress() {
    let download_ = Download::new(&[Act::Serve]);
    let mut seen = Vec::new();
    let url = format!("{}/file.bin", download_.server.url);
    download(
        &url,
        &download_.to(),
        checksum(&body()),
        &download_.options,
        &mut |Progress { file, done, total }| {
            assert_eq!((file, total), ("file.bin", Some(300_000)));
            seen.push(done);
        },
    )
    .unwrap();
    download_.assert_right();
    assert!(seen.is_sorted() && seen.first() == Some(&0) && seen.last() == Some(&300_000), "{seen:?}");
}

#[test]
fn a_truncated_transfer_goes_on_where_it_stopped() {
    let download = Download::new(&[Act::Truncate(100_000), Act::Truncate(70_000), Act::Serve]);
    download.run().unwrap();
    download.assert_right();
    assert_eq!(download.server.ranges(), [None, Some(100_000), Some(170_000)]);
}

/// More interruptions than attempts: each got further, so none is the last straw.
#[test]
fn progress_renews_the_patience() {
    let download = Download::new(&[Act::Truncate(40_000)]);
    download.run().unwrap();
    download.assert_right();
    assert_eq!(download.server.ranges().len(), 8);
}

#[test]
fn a_transfer_that_never_gets_further_is_given_up_and_kept() {
    let download = Download::new(&[Act::Truncate(1000), Act::Truncate(0)]);
    let error = download.run().unwrap_err();
    assert!(
        matches!(error, FetchError::Broken { got: 1000, .. } | FetchError::Truncated { got: 1000, .. }),
        "{error:?}"
    );
    assert_eq!(fs::read(download.part()).unwrap(), body()[..1000]);
    assert!(!download.to().exists());
    // the first failure got further, two did not
    assert_eq!(download.server.ranges(), [None, Some(1000), Some(1000)]);
}

#[test]
fn the_next_run_goes_on_with_the_partial_file() {
    let download = Download::new(&[Act::Serve]);
    fs::write(download.part(), &body()[..123_456]).unwrap();
    download.run().unwrap();
    download.assert_right();
    assert_eq!(download.server.ranges(), [Some(123_456)]);
}

#[test]
fn a_complete_partial_file_needs_no_server() {
    let download = Download::new(&[Act::Status(500)]);
    fs::write(download.part(), body()).unwrap();
    download.run().unwrap();
    download.assert_right();
    assert!(download.server.ranges().is_empty());
}

#[test]
fn a_partial_file_of_something_else_is_started_over() {
    for wrong in [vec![1; 1000], vec![1; 300_000], vec![1; 400_000]] {
        let download = Download::new(&[Act::Serve]);
        fs::write(download.part(), &wrong).unwrap();
        download.run().unwrap();
        download.assert_right();
        assert_eq!(download.server.ranges(), [Some(wrong.len() as u64), None]);
    }
}

#[test]
fn a_stall_is_noticed_in_time_and_the_transfer_goes_on() {
    let download = Download::new(&[Act::Stall(50_000), Act::Serve]);
    let start = Instant::now();
    download.run().unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    download.assert_right();
    assert_eq!(download.server.ranges(), [None, Some(50_000)]);
}

#[test]
fn a_server_that_only_stalls_is_given_up() {
    let download = Download::new(&[Act::Stall(0)]);
    let error = download.run().unwrap_err();
    let waited = Duration::from_millis(500);
    assert!(matches!(error, FetchError::Stalled { waited: got, got: 0, .. } if got == waited), "{error:?}");
    download.assert_nothing_left();
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let download = Download::new(&[Act::Truncate(200_000), Act::IgnoreRange]);
    download.run().unwrap();
    download.assert_right();
}

#[test]
fn a_range_that_was_not_asked_for_is_not_appended() {
    let download = Download::new(&[Act::Truncate(200_000), Act::WrongRange, Act::Serve]);
    download.run().unwrap();
    download.assert_right();
    assert_eq!(download.server.ranges(), [None, Some(200_000), None]);
}

#[test]
fn corruption_is_refused_and_removed() {
    let download = Download::new(&[Act::Corrupt]);
    let error = download.run().unwrap_err();
    assert!(matches!(&error, FetchError::Checksum { got, need, .. } if !got.contains(need)), "{error:?}");
    assert!(!error.is_transient());
    download.assert_nothing_left();
    assert_eq!(download.server.ranges().len(), 1);
}

#[test]
fn corruption_of_a_resumed_transfer_costs_one_more_try() {
    let download = Download::new(&[Act::Truncate(1000), Act::Corrupt, Act::Serve]);
    download.run().unwrap();
    download.assert_right();
    assert_eq!(download.server.ranges(), [None, Some(1000), None]);
}

#[test]
fn a_missing_file_is_an_error_at_once() {
    for status in [404, 403, 410] {
        let download = Download::new(&[Act::Status(status)]);
        let error = download.run().unwrap_err();
        assert!(matches!(error, FetchError::Status { status: got, .. } if got == status), "{error:?}");
        download.assert_nothing_left();
        assert_eq!(download.server.ranges().len(), 1);
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let download = Download::new(&[Act::Status(503), Act::Status(429), Act::Serve]);
    download.run().unwrap();
    download.assert_right();
    let download = Download::new(&[Act::Status(503)]);
    assert!(matches!(download.run(), Err(FetchError::Status { status: 503, .. })));
    assert_eq!(download.server.ranges().len(), 3);
}

#[test]
fn a_file_of_another_length_is_refused_before_it_is_read() {
    for (act, got) in [(Act::TooLong, 300_001), (Act::TooShort, 299_999)] {
        let download = Download::new(&[act]);
        let error = download.run().unwrap_err();
        assert!(
            matches!(error, FetchError::Length { got: there, need: 300_000, .. } if there == got),
            "{error:?}"
        );
        download.assert_nothing_left();
    }
}

#[test]
fn a_file_without_end_is_cut_off() {
    let download = Download::new(&[Act::Endless]);
    assert!(matches!(download.run(), Err(FetchError::Length { need: 300_000, .. })));
    download.assert_nothing_left();
}

#[test]
fn an_end_that_comes_early_without_a_length_is_noticed() {
    let download = Download::new(&[Act::TruncateSilently(100_000), Act::Serve]);
    download.run().unwrap();
    download.assert_right();
    assert_eq!(download.server.ranges(), [None, Some(100_000)]);
}

#[test]
fn nobody_at_the_address_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let options = FetchOptions { attempts: 2, backoff: Duration::ZERO, ..FetchOptions::new(folder.path()) };
    // a port that was free a moment ago
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let to = folder.path().join("file");
    let error = download(&format!("http://{address}/file"), &to, checksum(&body()), &options, &mut |_| {});
    assert!(matches!(error, Err(FetchError::Request { .. })), "{error:?}");
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn two_downloads_of_one_file_do_not_mix() {
    let download = Download::new(&[Act::Stall(1000), Act::Serve]);
    thread::scope(|scope| {
        let first = scope.spawn(|| download.run());
        while !fs::read(download.part()).is_ok_and(|bytes| !bytes.is_empty()) {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(matches!(download.run(), Err(FetchError::Busy { .. })));
        first.join().unwrap().unwrap();
    });
    download.assert_right();
}

#[test]
fn gzip_is_checked_by_what_it_holds() {
    let pack = |level| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(&body()).unwrap();
        encoder.finish().unwrap()
    };
    let Checksum::Plain { len, sha256 } = checksum(&body()) else { unreachable!() };
    let checksum = Checksum::Gunzipped { len, sha256 };
    let folder = tempfile::tempdir().unwrap();
    let options = FetchOptions::new(folder.path());
    for (name, packed) in [("fast", pack(1)), ("small", pack(9))] {
        let server = Server::start(packed.clone(), &[Act::Serve]);
        let to = folder.path().join(name);
        download(&format!("{}/{name}", server.url), &to, checksum, &options, &mut |_| {}).unwrap();
        assert_eq!(fs::read(to).unwrap(), packed);
    }
    let mut damaged = pack(6);
    let at = damaged.len() / 2;
    damaged[at] ^= 0xff;
    for wrong in [damaged, pack(6)[..1000].to_vec(), b"<html>sorry</html>".to_vec()] {
        let server = Server::start(wrong, &[Act::Serve]);
        let to = folder.path().join("wrong");
        let error = download(&format!("{}/wrong", server.url), &to, checksum, &options, &mut |_| {});
        assert!(matches!(error, Err(FetchError::Checksum { .. })), "{error:?}");
        assert!(!to.exists());
    }
}

#[test]
fn an_unknown_set_is_named_beside_the_known_ones() {
    let folder = tempfile::tempdir().unwrap();
    let error = fetch("imagenet", &FetchOptions::new(folder.path()), &mut |_| {}).unwrap_err();
    let known = "no data set \"imagenet\" to fetch, there are fashion-mnist, mnist, shakespeare";
    assert_eq!(error.to_string(), known);
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

/// Every set refuses a mirror that serves something else, and leaves only its licence.
#[test]
fn a_mirror_with_other_files_is_refused() {
    for set in SETS {
        let mut download = Download::new(&[Act::Serve]);
        download.options.mirror = Some(format!("{}/", download.server.url));
        let error = fetch(set.name, &download.options, &mut |_| {}).unwrap_err();
        let wrong = matches!(error, FetchError::Checksum { .. } | FetchError::Length { .. });
        assert!(wrong && error.to_string().contains("/folder/"), "{error}");
        let left: Vec<_> = fs::read_dir(download.folder.path().join(set.name)).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].as_ref().unwrap().file_name(), "LICENCE.txt");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test asks whether it may be skipped")]
fn required(what: &str) -> bool {
    let required = std::env::var("PHALANX_REQUIRE").unwrap_or_default();
    required.split(',').any(|item| item == what || item == "all")
}

/// The real files: copied from the package of the system, then found, then repaired.
#[test]
fn fashion_mnist_is_found_where_debian_installs_it() {
    let installed = Path::new("/usr/share/datasets/fashion-mnist");
    if !installed.is_dir() {
        assert!(!required("fashion-mnist"), "needs the Debian package dataset-fashion-mnist");
        println!("skipped: the Debian package dataset-fashion-mnist is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let options = FetchOptions::new(folder.path());
    let first = fetch("fashion-mnist", &options, &mut |_| {}).unwrap();
    assert_eq!(first.origin, Origin::Installed(installed.to_path_buf()));
    assert_eq!(first.path, folder.path().join("fashion-mnist"));
    assert!(phalanx_data::IdxFiles::in_folder(&first.path).is_ok());
    assert_eq!(fetch("fashion-mnist", &options, &mut |_| {}).unwrap().origin, Origin::Present);
    fs::write(first.path.join("t10k-labels-idx1-ubyte.gz"), b"overwritten").unwrap();
    let repaired = fetch("fashion-mnist", &options, &mut |_| {}).unwrap();
    assert_eq!(repaired.origin, Origin::Installed(installed.to_path_buf()));
}
