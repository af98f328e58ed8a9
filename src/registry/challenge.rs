//! WWW-Authenticate challenges (RFC 9110, 11.6.1), as registries use them: Bearer, Basic.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use crate::limits::MAX_REMEMBERED_HOSTS;

/// How a registry asks for credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token of the service at `realm`.
    Bearer {
        /// URL of the token service.
        realm: String,
        /// Name that the registry has there.
        service: Option<String>,
        /// What the request needed, separated by spaces.
        scope: Option<String>,
    },
    /// User and password with every request.
    Basic,
}

impl Challenge {
    /// The scope asked for, where it covers all of `actions` (separated by commas). The
    /// registry's own words are preferred to ours: behind a proxy it may know the repository
    /// by another name.
    pub(super) fn scope_covering(&self, actions: &str) -> Option<String> {
        let Self::Bearer {
            scope: Some(asked), ..
        } = self
        else {
            return None;
        };
        let covers = asked.split_ascii_whitespace().any(|scope| {
            scope.rsplit_once(':').is_some_and(|(_, granted)| {
                actions
                    .split(',')
                    .all(|need| granted.split(',').any(|own| own == need))
            })
        });
        covers.then(|| asked.clone())
    }
}

/// What each registry asks for, remembered so that the next request is not refused first.
/// Holds no secret, so all credentials share it.
#[derive(Debug)]
pub(super) struct Challenges {
    by_host: Mutex<LruCache<String, Challenge>>,
}

impl Challenges {
    pub(super) fn new() -> Self {
        let limit = NonZeroUsize::new(MAX_REMEMBERED_HOSTS).expect("the limit is not zero");
        Self {
            by_host: Mutex::new(LruCache::new(limit)),
        }
    }

    pub(super) fn of(&self, host: &str) -> Option<Challenge> {
        let mut known = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(host).cloned()
    }

    pub(super) fn remember(&self, host: &str, challenge: Challenge) {
        let mut known = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        known.put(host.to_owned(), challenge);
    }
}

/// The challenge to answer among the values of the WWW-Authenticate headers: Bearer before
/// Basic, since a token is worth less to a thief than a password. `None` when neither is
/// there.
pub(super) fn preferred<'a>(values: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut best = None;
    for (scheme, parameters) in values.flat_map(parse) {
        let parameter = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("bearer") {
            if let Some(realm) = parameter("realm") {
                let (service, scope) = (parameter("service"), parameter("scope"));
                return Some(Challenge::Bearer {
                    realm,
                    service,
                    scope,
                });
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            best = Some(Challenge::Basic);
        }
    }
    best
}

type Parsed = (String, Vec<(String, String)>);

/// Splits one header value into challenges. Parameters may be quoted, with escapes and
/// commas inside; several challenges may share one value. What cannot be read is left out.
fn parse(value: &str) -> Vec<Parsed> {
    let mut challenges: Vec<Parsed> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return challenges;
        }
        let after_word = after.trim_start_matches([' ', '\t']);
        if let Some(after_equals) = after_word.strip_prefix('=') {
            let (text, after_value) = parameter_value(after_equals.trim_start_matches([' ', '\t']));
            if let Some((_, parameters)) = challenges.last_mut() {
                parameters.push((word.to_ascii_lowercase(), text));
            }
            rest = after_value;
        } else {
            challenges.push((word.to_owned(), Vec::new()));
            rest = after_word;
        }
    }
}

/// A token of RFC 9110, 5.6.2.
fn token(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    text.split_at(end)
}

fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        // Unquoted values with characters outside a token occur (URLs): read to the comma.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    fn one(value: &str) -> Option<Challenge> {
        preferred(std::iter::once(value))
    }

    #[test]
    fn quoted_strings_hold_commas_and_escapes() {
        let value = r#"Bearer realm="https://auth.example/token",service="a \"b\"\\",scope="repository:x/y:pull,push repository:z:pull""#;
        let expected = bearer(
            "https://auth.example/token",
            Some(r#"a "b"\"#),
            Some("repository:x/y:pull,push repository:z:pull"),
        );
        assert_eq!(one(value), expected);
    }

    #[test]
    fn spelling_varies() {
        assert_eq!(one("bearer REALM=\"r\""), bearer("r", None, None));
        assert_eq!(
            one("Bearer realm = \"r\" , service = s"),
            bearer("r", Some("s"), None)
        );
        assert_eq!(
            one("Bearer realm=https://a/t?x=1,service=s"),
            bearer("https://a/t?x=1", Some("s"), None)
        );
        assert_eq!(one("BASIC realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(one("Basic"), Some(Challenge::Basic));
        assert_eq!(
            one("Bearer realm=\"unterminated"),
            bearer("unterminated", None, None)
        );
    }

    #[test]
    fn bearer_is_preferred_in_one_header_or_several() {
        let both = "Basic realm=\"b\", Bearer realm=\"t\",service=\"s\"";
        assert_eq!(one(both), bearer("t", Some("s"), None));
        let several = ["Negotiate abc==", "Basic realm=\"b\"", "Bearer realm=\"t\""];
        assert_eq!(preferred(several.into_iter()), bearer("t", None, None));
    }

    #[test]
    fn what_cannot_be_answered_is_none() {
        for value in [
            "",
            "Negotiate",
            "Digest realm=\"x\"",
            "Bearer",
            "Bearer service=\"s\"",
        ] {
            assert_eq!(one(value), None, "{value}");
        }
    }

    #[test]
    fn a_scope_is_used_where_it_suffices() {
        let asked = |actions: &str, scope: &str| {
            let scope = Some(scope.to_owned());
            let challenge = Challenge::Bearer {
                realm: "r".to_owned(),
                service: None,
                scope,
            };
            challenge.scope_covering(actions)
        };
        let pull = "repository:proxy/app:pull";
        assert_eq!(asked("pull", pull).as_deref(), Some(pull));
        assert_eq!(asked("pull,push", pull), None);
        let push = "repository:app:push,pull aws";
        assert_eq!(asked("pull,push", push).as_deref(), Some(push));
        assert_eq!(asked("pull", "registry:catalog:*"), None);
        assert_eq!(Challenge::Basic.scope_covering("pull"), None);
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(value in "\\PC{0,60}|[Bb]earer [a-z=\", \\\\]{0,40}") {
            one(&value);
        }
    }
}
