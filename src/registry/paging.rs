//! Lists that come in pages, each naming the next by a Link header.

use reqwest::Url;
use reqwest::header::LINK;

use crate::client::Call;
use crate::error::RegistryError;
use crate::host::same_origin;
use crate::response::Response;

/// The next page that a Link header (RFC 8288) names. It must lie at the same registry, or
/// at the server that answered for it.
pub(super) fn next_page(
    call: &Call<'_>,
    response: &Response,
) -> Result<Option<Url>, RegistryError> {
    let links = response
        .headers()
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let Some(target) = links.filter_map(next_link).next() else {
        return Ok(None);
    };
    let malformed = |reason: String| RegistryError::Malformed {
        at: response.at().to_owned(),
        reason,
    };
    let url = response
        .url()
        .join(target)
        .map_err(|error| malformed(format!("Link {target:?}: {error}")))?;
    if !same_origin(&url, &call.url) && !same_origin(&url, response.url()) {
        return Err(malformed(format!("Link {target:?} leads to another host")));
    }
    Ok(Some(url))
}

/// The target of `<TARGET>; rel="next"` in one header value, which may hold several links.
fn next_link(value: &str) -> Option<&str> {
    let mut rest = value;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, parameters) = after.split_once('>')?;
        let (own, following) = parameters.split_once('<').unwrap_or((parameters, ""));
        let is_next = own
            .split([';', ','])
            .filter_map(|p| p.trim().split_once('='))
            .any(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value
                        .trim()
                        .trim_matches('"')
                        .split(' ')
                        .any(|rel| rel == "next")
            });
        if is_next {
            return Some(target);
        }
        if following.is_empty() {
            return None;
        }
        rest = &parameters[own.len()..];
    }
}

#[cfg(test)]
mod tests;
