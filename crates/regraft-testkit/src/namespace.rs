//! Hosts with networks of their own: network namespaces of Linux, each with a link to this machine
//! that can be cut.
//!
//! They take root's rights and `ip` of iproute2. Whoever is without them has [`crate::Proxy`].

use std::io;
use std::net::Ipv4Addr;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU8, Ordering};

use regraft_pg::managed::Server;

/// Links of one process: each has four addresses of the 256 that are the process's.
const MOST: u8 = 64;

static MADE: AtomicU8 = AtomicU8::new(0);

/// A host with a network of its own. It ends with the value.
#[derive(Debug)]
pub struct Namespace {
    /// The namespace's name, and this machine's end of the link.
    name: String,
    /// This machine, as it is seen from there.
    address: Ipv4Addr,
}

impl Namespace {
    /// A host.
    ///
    /// # Errors
    /// Namespaces can't be had here.
    ///
    /// # Panics
    /// A process that has made 64 of them.
    pub fn new() -> io::Result<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        assert!(number < MOST, "there are too many hosts");
        let id = process::id();
        let [_, _, second, third] = id.to_be_bytes();
        let at = |last: u8| Ipv4Addr::new(10, 64 + second % 64, third, number * 4 + last);
        let namespace = Self {
            name: format!("rg{id}h{number}"),
            address: at(1),
        };
        let Self { name, address } = &namespace;
        ip(&format!("netns add {name}"))?;
        ip(&format!(
            "link add {name} type veth peer name eth0 netns {name}"
        ))?;
        ip(&format!("addr add {address}/30 dev {name}"))?;
        ip(&format!("link set {name} up"))?;
        ip(&format!("-n {name} addr add {}/30 dev eth0", at(2)))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        Ok(namespace)
    }

    /// What a command on that host begins with.
    pub(crate) fn prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// The URL of a database as it is seen from there, from its URL here. There is no TLS: the link
    /// never leaves this machine.
    pub fn url(&self, here: &str) -> String {
        assert!(here.contains("@127.0.0.1:"), "the URL names this machine");
        let there = here.replace("@127.0.0.1:", &format!("@{}:", self.address));
        let more = if there.contains('?') { '&' } else { '?' };
        format!("{there}{more}sslmode=disable")
    }

    /// Cuts the link, or mends it. What is sent meanwhile is lost, and nobody is told.
    pub fn cut(&self, cut: bool) {
        let state = if cut { "down" } else { "up" };
        ip(&format!("link set {} {state}", self.name)).expect("the link is there");
    }

    /// Lets hosts reach a server, which is restarted for it.
    pub fn admit(server: &Server) {
        let rules = server.data_dir().join("pg_hba.conf");
        let mut text = std::fs::read_to_string(&rules).expect("the rules can be read");
        text.push_str("\nhost all all 10.64.0.0/10 scram-sha-256\n");
        std::fs::write(&rules, text).expect("the rules can be written");
        server
            .execute("postgres", "alter system set listen_addresses = '*'")
            .expect("a setting");
        server.restart().expect("a restart");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Half of it may be there.
        let _ = ip(&format!("link del {}", self.name));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) -> io::Result<()> {
    let done = Command::new("ip").args(arguments.split(' ')).output()?;
    if done.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&done.stderr);
    Err(io::Error::other(format!("ip {arguments}: {}", why.trim())))
}
