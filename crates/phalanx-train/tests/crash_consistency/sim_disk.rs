//! A file system in memory that forgets, at a crash, whatever was not synced.
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::Mutex;

use phalanx_train::storage::Storage;

/// Entries of a directory: those that programs see, and those that a crash cannot take.
#[derive(Debug, Clone, Default)]
struct Dir {
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
}

#[derive(Debug, Clone)]
enum Node {
    Dir(Dir),
    File(Vec<u8>),
}

/// The disk; node 0 is the root.
///
/// File contents are durable once written (each write is synced); names only after the directory is.
#[derive(Debug)]
pub(crate) struct SimDisk {
    nodes: Mutex<Vec<Node>>,
}

impl SimDisk {
    pub(crate) fn new() -> Self {
        Self { nodes: Mutex::new(vec![Node::Dir(Dir::default())]) }
    }

    /// The disk after a power cut: bit `i` of `survives` says whether the changes of the names in the
    /// `i`-th changed directory that were not synced survived all the same.
    pub(crate) fn after_crash(&self, survives: u32) -> Self {
        let mut nodes = self.nodes.lock().unwrap().clone();
        let mut changed = 0;
        for node in &mut nodes {
            if let Node::Dir(dir) = node
                && dir.live != dir.durable
            {
                if survives & (1 << changed) == 0 {
                    dir.live = dir.durable.clone();
                } else {
                    dir.durable = dir.live.clone();
                }
                changed += 1;
            }
        }
        Self { nodes: Mutex::new(nodes) }
    }

    /// How many directories have changes that are not synced.
    pub(crate) fn unsynced(&self) -> u32 {
        let nodes = self.nodes.lock().unwrap();
        let changed = nodes.iter().filter(|node| matches!(node, Node::Dir(dir) if dir.live != dir.durable));
        u32::try_from(changed.count()).unwrap()
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn find(nodes: &[Node], path: &Path) -> io::Result<usize> {
    let mut at = 0;
    for part in path.components() {
        if let Component::Normal(name) = part {
            let Node::Dir(dir) = &nodes[at] else { return Err(io::ErrorKind::NotADirectory.into()) };
            at = *dir.live.get(name.to_str().unwrap()).ok_or_else(missing)?;
        }
    }
    Ok(at)
}

/// The directory that holds `path`, and the name in it.
fn place<'n>(nodes: &'n mut [Node], path: &Path) -> io::Result<(&'n mut Dir, String)> {
    let name = path.file_name().ok_or_else(missing)?.to_str().unwrap().to_owned();
    let at = find(nodes, path.parent().unwrap())?;
    match &mut nodes[at] {
        Node::Dir(dir) => Ok((dir, name)),
        Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
    }
}

impl Storage for SimDisk {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut nodes = self.nodes.lock().unwrap();
        if find(&nodes, path).is_ok() {
            return Ok(());
        }
        nodes.push(Node::Dir(Dir::default()));
        let new = nodes.len() - 1;
        let (dir, name) = place(&mut nodes, path)?;
        dir.live.insert(name, new);
        Ok(())
    }

    fn write_synced(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let mut nodes = self.nodes.lock().unwrap();
        if let Ok(at) = find(&nodes, path) {
            nodes[at] = Node::File(parts.concat());
            return Ok(());
        }
        nodes.push(Node::File(parts.concat()));
        let new = nodes.len() - 1;
        let (dir, name) = place(&mut nodes, path)?;
        dir.live.insert(name, new);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut nodes = self.nodes.lock().unwrap();
        let at = find(&nodes, path)?;
        if let Node::Dir(dir) = &mut nodes[at] {
            dir.durable = dir.live.clone();
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut nodes = self.nodes.lock().unwrap();
        let moved = find(&nodes, from)?;
        if let Ok(target) = find(&nodes, to)
            && matches!(&nodes[target], Node::Dir(_))
        {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (dir, name) = place(&mut nodes, from)?;
        dir.live.remove(&name);
        let (dir, name) = place(&mut nodes, to)?;
        dir.live.insert(name, moved);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut nodes = self.nodes.lock().unwrap();
        find(&nodes, path)?;
        let (dir, name) = place(&mut nodes, path)?;
        dir.live.remove(&name);
        Ok(())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.read(path, u64::MAX).map(|bytes| bytes.len() as u64)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let nodes = self.nodes.lock().unwrap();
        match &nodes[find(&nodes, path)?] {
            Node::File(bytes) => Ok(bytes.iter().copied().take(limit.try_into().unwrap()).collect()),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let nodes = self.nodes.lock().unwrap();
        match &nodes[find(&nodes, path)?] {
            Node::Dir(dir) => Ok(dir.live.keys().cloned().collect()),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }
}
