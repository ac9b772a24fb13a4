//! The nodes that the shards are shown as (`cluster-shard-nodes`): their ports, and their names, which outlive the process.
//!
//! ```text
//!   # Names of the nodes of this server (cluster-shard-nodes). Written by Annulus.
//!   node 0 07c37dfeb235213a872192d90877d0cd55635b91 f1a2…      shard, name, name of the node with its replicas
//!   node 1 67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 0b3c…
//! ```
//!
//! The file is `cluster-config-file` in `dir`. It is made at the first start with the mode, and gets further lines when the server has more
//! shards than ever before; lines are never taken away, so a shard has the same name whenever it is there. Runs on the thread that starts
//! the program, before any shard does.
//!
//! Absent on purpose: slots and addresses, which follow from the settings. A file that somebody else wrote (a Redis Cluster's
//! `nodes.conf`) is left alone, and named in an error.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::config::Config;
use crate::rt::entropy;
use crate::shard::nodes::Node;

const TITLE: &str = "# Names of the nodes of this server (cluster-shard-nodes). Written by Annulus.\n";

/// The nodes that the settings ask for; none without the mode.
pub(super) fn nodes(config: &Config) -> Result<Vec<Node>, Box<dyn std::error::Error>> {
    if !config.cluster_shard_nodes {
        return Ok(Vec::new());
    }
    let base = match (config.cluster_shard_port_base, config.port) {
        (0, 0) => {
            return Err("cluster-shard-nodes needs a port for each shard: set port, or cluster-shard-port-base".into());
        }
        (0, port) => u32::from(port) + 1,
        (base, _) => u32::from(base),
    };
    let last = base + u32::from(config.shards) - 1;
    if last > u32::from(u16::MAX) {
        return Err(format!(
            "cluster-shard-nodes: {} shards from port {base} on would need ports above 65535",
            config.shards
        )
        .into());
    }
    let path = config.cluster_config_file.to_path().ok_or("cluster-shard-nodes needs a cluster-config-file")?;
    let names = names(&path, usize::from(config.shards))?;
    let nodes: Vec<Node> = names
        .into_iter()
        .zip(base..)
        .map(|((id, group), port)| Node { id, group, port: u16::try_from(port).expect("the last one was checked") })
        .collect();
    for (shard, node) in nodes.iter().enumerate() {
        tracing::info!("Cluster node {} is shard {shard}, on port {}", node.id, node.port);
    }
    Ok(nodes)
}

/// The names of this many nodes, from the file or new ones that it is given.
fn names(path: &Path, count: usize) -> Result<Vec<(String, String)>, String> {
    let at = |error: io::Error| format!("cluster-config-file '{}': {error}", path.display());
    let mut names = match fs::read_to_string(path) {
        Ok(text) => parse(&text).ok_or_else(|| {
            format!(
                "cluster-config-file '{}' was not written by this server, and is left alone: name another one",
                path.display()
            )
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(at(error)),
    };
    if names.len() < count {
        names.resize_with(count, || (entropy::hex_id(), entropy::hex_id()));
        replace(path, &print(&names)).map_err(at)?;
    }
    names.truncate(count);
    Ok(names)
}

fn print(names: &[(String, String)]) -> String {
    let lines = names.iter().enumerate().map(|(shard, (id, group))| format!("node {shard} {id} {group}\n"));
    std::iter::once(TITLE.to_owned()).chain(lines).collect()
}

/// None if the file is not ours, or damaged.
fn parse(text: &str) -> Option<Vec<(String, String)>> {
    let is_name = |word: &&str| word.len() == 40 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let line = |(shard, line): (usize, &str)| {
        let mut words = line.strip_prefix("node ")?.split(' ');
        let place = words.next()?.parse() == Ok(shard);
        let (id, group) = (words.next().filter(is_name)?, words.next().filter(is_name)?);
        (place && words.next().is_none()).then(|| (id.to_owned(), group.to_owned()))
    };
    text.strip_prefix(TITLE)?.lines().enumerate().map(line).collect()
}

/// Writes a small file so that a crash leaves the old one or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = std::ffi::OsString::from("temp-");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    let temporary = folder.join(name);
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_once_and_more_of_them_when_there_are_more_shards() {
        let folder = std::env::temp_dir().join(format!("annulus-nodes-{}-{}", std::process::id(), entropy::u64()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("nodes.conf");
        let two = names(&path, 2).unwrap();
        assert_ne!(two[0].0, two[1].0);
        assert_eq!(names(&path, 2).unwrap(), two);
        let four = names(&path, 4).unwrap();
        assert_eq!(four[..2], two);
        assert_eq!(names(&path, 1).unwrap(), four[..1]);
        assert_eq!(names(&path, 4).unwrap(), four, "fewer shards take no name away");

        fs::write(&path, "07c37d 127.0.0.1:30004@31004 myself,master - 0 0 1 connected 0-16383\n").unwrap();
        assert!(names(&path, 2).unwrap_err().contains("was not written by this server"));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_is_read_as_it_is_written_and_no_other() {
        let names = vec![("a".repeat(40), "b".repeat(40)), ("0".repeat(40), "1".repeat(40))];
        let text = print(&names);
        assert_eq!(parse(&text), Some(names));
        for other in [
            String::new(),
            text.replace("node 1", "node 2"),
            text.replace("aaaa", "aaa"),
            text.replace(TITLE, ""),
            format!("{text}x"),
        ] {
            assert_eq!(parse(&other), None, "{other}");
        }
    }

    #[test]
    fn nodes_follow_the_main_port_or_the_base() {
        let with = |port, base, shards| {
            let mut config = Config { port, cluster_shard_port_base: base, shards, ..Config::default() };
            config.cluster_shard_nodes = true;
            config.cluster_config_file = "/nonexistent/nodes.conf".into();
            nodes(&config).unwrap_err().to_string()
        };
        assert!(with(0, 0, 2).contains("needs a port"));
        assert!(with(65000, 65530, 7).contains("above 65535"));
        assert!(with(6379, 0, 2).contains("/nonexistent/nodes.conf"));
        assert_eq!(nodes(&Config::default()).unwrap(), []);
    }
}
