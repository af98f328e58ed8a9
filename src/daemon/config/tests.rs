use super::*;

#[test]
fn every_key_is_optional_and_has_its_default() {
    let config: Config = toml::from_str("").unwrap();
    assert_eq!(config.fetch.background, Background::Full);
    assert_eq!(
        config.fetch.on_outage,
        OnOutage::Wait(Duration::from_secs(300))
    );
    assert_eq!(config.fetch.limits(), FetchLimits::default());
    assert_eq!(config.cache.budget, None);
    assert!(!config.publish.auto);
    assert_eq!(config.service.orphan_timeout, OrphanTimeout::Off);
}

#[test]
fn every_key_is_read() {
    let config: Config = toml::from_str(
        r#"
        [cache]
        budget = "20GiB"
        [fetch]
        background = "until-ready"
        on_outage = { wait = "forever" }
        connections = 6
        in_flight = "64MiB"
        [registry]
        plain_http = ["registry.test:5000"]
        https = ["localhost:5443"]
        ca_files = ["/etc/ca.pem"]
        [trust.repositories]
        "registry.test:5000/a" = "strict"
        "registry.test:5000/a/b" = "registry"
        [service]
        orphan_timeout = "10m"
        [publish]
        auto = true
        repository = "registry.test:5000/indexes"
        delay = "5s"
        [limits]
        layer_size = "2GiB"
        "#,
    )
    .unwrap();
    assert_eq!(config.cache.budget, Some(ByteSize(20 << 30)));
    assert_eq!(config.limits.index_options().max_stream_size, 2 << 30);
    assert_eq!(config.fetch.background, Background::UntilReady);
    assert_eq!(config.fetch.on_outage, OnOutage::Forever);
    let limits = FetchLimits {
        connections: 6,
        in_flight_bytes: 64 << 20,
    };
    assert_eq!(config.fetch.limits(), limits);
    assert_eq!(config.registry.https, ["localhost:5443"]);
    assert!(config.publish.auto && config.publish.key.is_none());
    assert_eq!(config.publish.delay, Duration::from_secs(5));
    let after = OrphanTimeout::After(Duration::from_secs(600));
    assert_eq!(config.service.orphan_timeout, after);
    assert_eq!(
        config.trust.policy("registry.test:5000/a/b/c"),
        Some(Policy::Registry)
    );
    assert_eq!(
        config.trust.policy("registry.test:5000/a/x"),
        Some(Policy::Strict)
    );
    assert_eq!(config.trust.policy("registry.test:5000/ab"), None);
}

/// The documented configuration, with the keys that have no default left out.
const SAMPLE: &str = include_str!("../../../packaging/config.toml");

#[test]
fn the_documented_values_are_the_defaults() {
    let config: Config = toml::from_str(SAMPLE).unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn every_key_is_documented() {
    // A key that has no default is shown as a comment without a space after its `#`.
    let text: Vec<&str> = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest,
            _ => line,
        })
        .collect();
    let config: Config = toml::from_str(&text.join("\n")).unwrap();
    // Whoever adds a key must name it here.
    let Config {
        cache: CacheConfig { budget },
        fetch:
            FetchConfig {
                background: _,
                on_outage: _,
                connections: _,
                in_flight: _,
            },
        registry:
            RegistryConfig {
                plain_http,
                https,
                ca_files,
                hosts_dirs,
            },
        trust: TrustConfig { repositories, keys },
        publish:
            PublishConfig {
                auto: _,
                repository,
                key,
                delay: _,
            },
        service: ServiceConfig { orphan_timeout: _ },
        limits: LimitsConfig { layer_size },
        metrics: MetricsConfig { address },
        snapshotter: SnapshotterConfig { without_index: _ },
    } = config;
    assert!(budget.is_some() && layer_size.is_some() && address.is_some());
    assert!(!plain_http.is_empty() && !https.is_empty() && !ca_files.is_empty());
    assert!(!hosts_dirs.is_empty());
    assert!(!repositories.is_empty() && !keys.is_empty());
    assert!(repository.is_some() && key.is_some());
    let given = [
        "background = ",
        "on_outage = ",
        "connections = ",
        "in_flight = ",
        "orphan_timeout = ",
        "without_index = ",
        "auto = ",
        "delay = ",
    ];
    for key in given {
        assert!(SAMPLE.lines().any(|line| line.starts_with(key)), "{key}");
    }
}

#[test]
fn a_mistake_is_named_with_its_line_and_key() {
    for (text, line, key, words) in [
        (
            "[cache]\nbudgte = 1",
            2,
            "cache.budgte",
            "expected `budget`",
        ),
        ("[cache]\nbudget = \"lots\"", 2, "cache.budget", "20GiB"),
        (
            "\n[fetch]\non_outage = \"x\"",
            3,
            "fetch.on_outage",
            "forever",
        ),
        (
            "[service]\norphan_timeout = \"soon\"",
            2,
            "service.orphan_timeout",
            "10m",
        ),
        (
            "[metrics]\naddress = \"0.0.0.0:1\"",
            2,
            "metrics.address",
            "loopback",
        ),
        (
            "[registry]\nca_files = [\n 7,\n]",
            3,
            "registry.ca_files",
            "string",
        ),
        (
            "[fetch]\nbackground = \"all\"",
            2,
            "fetch.background",
            "until-ready",
        ),
        (
            "[trust.repositories]\n\"a.b/c\" = \"lax\"",
            2,
            "trust.repositories.\"a.b/c\"",
            "strict",
        ),
        (
            "[publish]\nrepository = \"indexes\"",
            2,
            "publish.repository",
            "in full",
        ),
        ("[publish]\ndelay = \"soon\"", 2, "publish.delay", "30s"),
        ("[nonsense]\n", 1, "nonsense", "expected one of"),
        ("[cache\n", 1, "", ""),
        (
            "cache.budget = 1\ncache.budget = 2",
            2,
            "cache.budget",
            "duplicate",
        ),
    ] {
        let error = toml::from_str::<Config>(text).unwrap_err();
        let mistake = Mistake::of(text, &error);
        assert_eq!(
            (mistake.line, mistake.key.as_str()),
            (line, key),
            "{text:?}"
        );
        assert!(
            mistake.message.contains(words),
            "{text:?}: {}",
            mistake.message
        );
        assert!(
            !mistake.message.contains('\n'),
            "{text:?}: {}",
            mistake.message
        );
    }
}
