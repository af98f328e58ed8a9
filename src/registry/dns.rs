//! Name resolution for the static binary, which has no `getaddrinfo`.
//!
//! An edge device changes networks while the daemon runs, and with them its name servers;
//! so `/etc/resolv.conf` and `/etc/hosts` are read again when they have changed. Without
//! name servers only `/etc/hosts` is answered from: nobody else's servers are asked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use hickory_resolver::config::{LookupIpStrategy, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// What a file looked like when it was read: its time of change and length.
type Stamp = Option<(SystemTime, u64)>;

/// Resolves host names as the system's files say, as they are now.
#[derive(Clone)]
pub(super) struct SystemResolver {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    current: Arc<Mutex<Option<Current>>>,
}

struct Current {
    stamps: [Stamp; 2],
    resolver: TokioResolver,
}

impl SystemResolver {
    pub(super) fn new() -> Self {
        Self::with_files("/etc/resolv.conf", "/etc/hosts")
    }

    fn with_files(resolv_conf: impl Into<PathBuf>, hosts: impl Into<PathBuf>) -> Self {
        Self {
            resolv_conf: resolv_conf.into(),
            hosts: hosts.into(),
            current: Arc::default(),
        }
    }

    /// The resolver for the files as they are. Two `stat` calls when nothing has changed,
    /// and only when a connection is made.
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let stamps = [stamp(&self.resolv_conf), stamp(&self.hosts)];
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = current.as_ref()
            && current.stamps == stamps
        {
            return Ok(current.resolver.clone());
        }
        let resolver = self.build()?;
        *current = Some(Current {
            stamps,
            resolver: resolver.clone(),
        });
        Ok(resolver)
    }

    fn build(&self) -> Result<TokioResolver, NetError> {
        let text = std::fs::read(&self.resolv_conf).unwrap_or_default();
        let (config, options) = parse_resolv_conf(&text).unwrap_or_else(|error| {
            let file = self.resolv_conf.display();
            tracing::warn!(%error, %file, "no name servers, names are found in the hosts file only");
            (ResolverConfig::default(), ResolverOpts::default())
        });
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        // Both kinds of address: the connector tries them in parallel.
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        let mut resolver = builder.build()?;
        let mut hosts = Hosts::default();
        if let Ok(file) = std::fs::File::open(&self.hosts) {
            hosts.read_hosts_conf(file)?;
        }
        resolver.set_hosts(Arc::new(hosts));
        Ok(resolver)
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let found = this.resolver()?.lookup_ip(name.as_str()).await?;
            // The connector fills the port in.
            let addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    async fn look_up(resolver: &SystemResolver, name: &str) -> Result<Vec<IpAddr>, String> {
        let found = resolver.resolve(name.parse().unwrap()).await;
        found
            .map(|all| all.map(|a| a.ip()).collect())
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn changed_files_are_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        std::fs::write(&hosts, "10.1.1.1 registry.test\n").unwrap();
        let resolver = SystemResolver::with_files(&conf, &hosts);
        let first: Vec<IpAddr> = vec!["10.1.1.1".parse().unwrap()];
        assert_eq!(look_up(&resolver, "registry.test").await.unwrap(), first);
        assert!(look_up(&resolver, "other.test").await.is_err());
        std::fs::write(&hosts, "10.1.1.22 registry.test\nfd00::5 other.test\n").unwrap();
        let second: Vec<IpAddr> = vec!["10.1.1.22".parse().unwrap()];
        assert_eq!(look_up(&resolver, "registry.test").await.unwrap(), second);
        assert!(look_up(&resolver, "other.test").await.unwrap()[0].is_ipv6());
    }

    /// Answers every question with one address.
    async fn name_server(answer: [u8; 4]) -> std::net::SocketAddr {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                let question = &query[12..length];
                let end = question.iter().position(|b| *b == 0).unwrap() + 5;
                let is_a = question[end - 4..end - 2] == [0, 1];
                let mut reply = query[..2].to_vec();
                reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
                reply.extend(&question[..end]);
                if is_a {
                    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                    reply.extend(answer);
                }
                socket.send_to(&reply, from).await.unwrap();
            }
        });
        address
    }

    /// The port in a resolv.conf is always 53, so this asks a resolver that was built with
    /// the test's server, through the same type.
    #[tokio::test]
    async fn name_servers_are_asked() {
        use hickory_resolver::config::NameServerConfig;
        let server = name_server([10, 9, 8, 7]).await;
        let mut name_server = NameServerConfig::udp(server.ip());
        name_server.connections[0].port = server.port();
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server]);
        let provider = TokioRuntimeProvider::default();
        let built = TokioResolver::builder_with_config(config, provider)
            .build()
            .unwrap();
        let resolver = SystemResolver::with_files("/nonexistent/a", "/nonexistent/b");
        *resolver.current.lock().unwrap() = Some(Current {
            stamps: [None, None],
            resolver: built,
        });
        let expected: Vec<IpAddr> = vec!["10.9.8.7".parse().unwrap()];
        assert_eq!(
            look_up(&resolver, "registry.example").await.unwrap(),
            expected
        );
    }
}
