//! Brings a cluster up and down.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::error::ClusterError;
use super::node::{command, holder, kill, processes};
use super::place::{Place, State, Switch, address, run, write};

/// The switch that is a program, in the language that every test machine has.
const USER_SWITCH: &str = include_str!("../../../../cluster/virtual/switch.py");

/// Frames as large as clusters have them.
const MTU: &str = "9000";

/// How large a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) nodes: usize,
    /// Ranks that the hosts file gives a node.
    pub(crate) slots: usize,
    pub(crate) switch: Switch,
}

/// Brings a cluster up; what fails leaves nothing behind.
///
/// # Errors
/// The first call that failed, by its command line.
pub(crate) fn up(place: &Place, size: Size) -> Result<(), ClusterError> {
    if !rustix::process::geteuid().is_root() {
        return Err(ClusterError::NotRoot);
    }
    if place.root.exists() {
        return Err(ClusterError::IsUp { name: place.name.clone() });
    }
    for program in ["ip", "nsenter", "unshare", "setsid", "ssh", "ssh-keygen"] {
        run(&["sh", "-c", "command -v \"$0\"", program]).map_err(|_| ClusterError::Missing { program })?;
    }
    if !Path::new(SSHD).exists() {
        return Err(ClusterError::Missing { program: "sshd" });
    }
    make(place, size).inspect_err(|_| {
        // the first failure is the one to tell
        down(place).unwrap_or_default();
    })
}

const SSHD: &str = "/usr/sbin/sshd";

fn make(place: &Place, size: Size) -> Result<(), ClusterError> {
    fs::create_dir_all(&place.root).map_err(ClusterError::io("make", &place.root))?;
    fs::create_dir_all("/run/sshd").map_err(ClusterError::io("make", Path::new("/run/sshd")))?;
    write_files(place, size)?;
    run(&["ip", "netns", "add", &place.switch_namespace()])?;
    for node in 1..=size.nodes {
        let namespace = place.namespace(node);
        run(&["ip", "netns", "add", &namespace])?;
        run(&["ip", "-netns", &namespace, "link", "set", "lo", "up"])?;
    }
    match size.switch {
        Switch::Bridge => bridge(place, size.nodes)?,
        Switch::User => user_switch(place, size.nodes)?,
    }
    for node in 1..=size.nodes {
        let namespace = place.namespace(node);
        let at = format!("{}/16", address(node));
        run(&["ip", "-netns", &namespace, "address", "add", &at, "dev", "eth0"])?;
        run(&["ip", "-netns", &namespace, "link", "set", "eth0", "mtu", MTU, "up"])?;
        start_holder(place, node)?;
        start_sshd(place, node)?;
    }
    place.write_state(&State { nodes: size.nodes, switch: size.switch })?;
    (1..=size.nodes).try_for_each(|node| try_ssh(place, node))
}

fn write_files(place: &Place, size: Size) -> Result<(), ClusterError> {
    let text = |path: &Path| path.display().to_string();
    let key = place.root.join("id");
    run(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "phalanx-cluster", "-f", &text(&key)])?;
    let (mut names, mut hosts, mut known) =
        ("127.0.0.1 localhost\n".to_owned(), String::new(), String::new());
    for node in 1..=size.nodes {
        let (dir, address) = (place.node_dir(node), address(node));
        fs::create_dir_all(&dir).map_err(ClusterError::io("make", &dir))?;
        let host_key = dir.join("hostkey");
        run(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "node", "-f", &text(&host_key)])?;
        let public = host_key.with_extension("pub");
        let public = fs::read_to_string(&public).map_err(ClusterError::io("read", &public))?;
        names += &format!("{address} node{node}\n");
        hosts += &format!("node{node} slots={}\n", size.slots);
        known += &format!("node{node},{address} {public}");
        let config = format!(
            "Port 22\nListenAddress {address}\nHostKey {}\nPidFile {}\nAuthorizedKeysFile {}\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUsePAM no\n\
             StrictModes no\nPrintMotd no\nMaxStartups 100\n",
            host_key.display(),
            dir.join("sshd.pid").display(),
            key.with_extension("pub").display(),
        );
        write(&dir.join("sshd_config"), &config)?;
    }
    let known_hosts = place.root.join("known_hosts");
    write(&place.etc_hosts(), &names)?;
    write(&place.hosts_file(), &hosts)?;
    write(&known_hosts, &known)?;
    let config = format!(
        "Host *\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  BatchMode yes\n  UserKnownHostsFile {}\n  \
         GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  ConnectTimeout 5\n  LogLevel ERROR\n",
        key.display(),
        known_hosts.display(),
    );
    write(&place.ssh_config(), &config)
}

fn bridge(place: &Place, nodes: usize) -> Result<(), ClusterError> {
    let switch = place.switch_namespace();
    run(&["ip", "-netns", &switch, "link", "add", "br0", "mtu", MTU, "type", "bridge"])?;
    run(&["ip", "-netns", &switch, "link", "set", "br0", "up"])?;
    for node in 1..=nodes {
        let (namespace, port) = (place.namespace(node), format!("port{node}"));
        run(&[
            "ip", "-netns", &namespace, "link", "add", "eth0", "type", "veth", "peer", "name", &port,
            "netns", &switch,
        ])?;
        run(&["ip", "-netns", &switch, "link", "set", &port, "mtu", MTU, "master", "br0", "up"])?;
    }
    Ok(())
}

/// The switch makes a device a node in its own namespace; devices keep their program when they move.
fn user_switch(place: &Place, nodes: usize) -> Result<(), ClusterError> {
    let (switch, program) = (place.switch_namespace(), place.root.join("switch.py"));
    write(&program, USER_SWITCH)?;
    let mut command = Command::new("setsid");
    command.arg("nsenter").arg(format!("--net=/run/netns/{switch}")).arg("python3").arg(&program);
    command.arg(place.switch_socket()).arg(nodes.to_string());
    detach(command, "setsid nsenter python3 switch.py")?;
    wait(0, "start its switch", || place.switch_socket().exists())?;
    for node in 1..=nodes {
        let (namespace, port) = (place.namespace(node), format!("port{node}"));
        run(&["ip", "-netns", &switch, "link", "set", &port, "netns", &namespace, "name", "eth0"])?;
    }
    Ok(())
}

/// A process that keeps the node's host name and mounts alive.
fn start_holder(place: &Place, node: usize) -> Result<(), ClusterError> {
    let (dir, namespace) = (place.node_dir(node), place.namespace(node));
    let script = format!(
        "hostname node{node} && mount --bind {} /etc/hosts && mount -t tmpfs -o size=4g,mode=1777 tmpfs /dev/shm && \
         echo $$ > {}/holder.pid && exec sleep infinity",
        place.etc_hosts().display(),
        dir.display(),
    );
    // a session of its own: the end of this program's terminal is not the end of the node
    let mut command = Command::new("setsid");
    command.arg("nsenter").arg(format!("--net=/run/netns/{namespace}"));
    command.args(["unshare", "--uts", "--mount", "sh", "-c", &script]);
    detach(command, "setsid nsenter unshare --uts --mount")?;
    let is_named = || holder(place, node).is_ok_and(|pid| !pid.is_empty());
    wait(node, "get its host name and mounts", is_named)
}

fn start_sshd(place: &Place, node: usize) -> Result<(), ClusterError> {
    let dir = place.node_dir(node);
    let words = [
        SSHD,
        "-f",
        &dir.join("sshd_config").display().to_string(),
        "-E",
        &dir.join("sshd.log").display().to_string(),
    ];
    let output = command(place, node, &words.map(Into::into))?
        .output()
        .map_err(ClusterError::io("start", Path::new(SSHD)))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let says = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(ClusterError::Command { command: words.join(" "), says })
        }
    }
}

fn try_ssh(place: &Place, node: usize) -> Result<(), ClusterError> {
    let config = place.ssh_config().display().to_string();
    let words = ["ssh", "-F", &config, &format!("node{node}"), "true"];
    let answers = || {
        let command = command(place, 1, &words.map(Into::into));
        command.is_ok_and(|mut command| command.output().is_ok_and(|output| output.status.success()))
    };
    wait(node, "answer to ssh", answers)
}

fn detach(mut command: Command, what: &'static str) -> Result<(), ClusterError> {
    let failed =
        |error: std::io::Error| ClusterError::Command { command: what.to_owned(), says: error.to_string() };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(drop).map_err(failed)
}

fn wait(node: usize, what: &'static str, is_done: impl Fn() -> bool) -> Result<(), ClusterError> {
    let (began, limit) = (Instant::now(), Duration::from_secs(10));
    while !is_done() {
        if began.elapsed() > limit {
            return Err(ClusterError::Late { node, what, seconds: limit.as_secs() });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Ends every process of a cluster, by its id, and removes what it had.
///
/// # Errors
/// When a namespace cannot be removed.
pub(crate) fn down(place: &Place) -> Result<(), ClusterError> {
    let listed = run(&["ip", "netns", "list"])?;
    let is_own = |name: &&str| {
        let rest = name.strip_prefix(&*place.name).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|rest| {
            rest == "sw" || rest.strip_prefix('n').is_some_and(|n| n.parse::<usize>().is_ok())
        })
    };
    for namespace in listed.lines().filter_map(|line| line.split_whitespace().next()).filter(is_own) {
        for pid in processes(namespace) {
            kill(pid).map_err(ClusterError::io("end a process of", Path::new(namespace)))?;
        }
        run(&["ip", "netns", "delete", namespace])?;
    }
    match fs::remove_dir_all(&place.root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ClusterError::io("remove", &place.root)(error))
        }
        _ => Ok(()),
    }
}
