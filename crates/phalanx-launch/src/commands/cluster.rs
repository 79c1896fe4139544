//! `phalanx cluster`: virtual nodes on this machine.

use super::Context;
use crate::cli::{ClusterArgs, ClusterCommand};
use crate::cluster::{self, Place, Size};

pub(super) fn cluster(args: &ClusterArgs, context: &mut Context<'_>) -> anyhow::Result<()> {
    let place = Place::new(&args.name)?;
    match &args.command {
        ClusterCommand::Up { nodes, slots, switch } => {
            let (nodes, slots) = (usize::from(*nodes), usize::from(*slots));
            cluster::up(&place, Size { nodes, slots, switch: *switch })?;
            let (hosts, ssh) = (place.hosts_file(), place.ssh_config());
            writeln!(context.out, "node1 to node{nodes}, {slots} slots each; to train on them:")?;
            writeln!(
                context.out,
                "  phalanx cluster --name {} on 1 phalanx launch --hosts {} --ssh 'ssh -F {}' train RUN.toml",
                args.name,
                hosts.display(),
                ssh.display()
            )?;
        }
        ClusterCommand::Down => cluster::down(&place)?,
        ClusterCommand::Status => context.out.write_all(cluster::status(&place)?.as_bytes())?,
        ClusterCommand::On { node, command } => return Err(cluster::enter(&place, *node, command).into()),
        ClusterCommand::Rate { node, rate } => cluster::rate(&place, *node, rate)?,
        ClusterCommand::Delay { node, time } => cluster::delay(&place, *node, time)?,
        ClusterCommand::Loss { node, share } => cluster::loss(&place, *node, *share)?,
        ClusterCommand::Cut { node, other } => cluster::cut(&place, *node, *other)?,
        ClusterCommand::Heal { node, other } => cluster::heal(&place, *node, *other)?,
    }
    Ok(())
}
