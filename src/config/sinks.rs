//! `[[sink]]`: where events go besides the database.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::Uri;

use crate::config::section::{At, Section};
use crate::engine::settings::{JsonlSettings, Login, OpenSearchSettings, Secret, SinkKind, SinkSettings};
use crate::sys::files;
use crate::wire::error::Error;
use crate::wire::id::{Name, quoted};

/// The largest file of certificates, in bytes.
const CA_LEN_MAX: u64 = 1 << 20;

/// All of them, in their order.
pub fn all(sections: Vec<Section<'_>>) -> Result<Vec<SinkSettings>, Error> {
    let mut sinks: Vec<SinkSettings> = Vec::new();
    let mut paths = BTreeSet::new();
    for (n, mut section) in sections.into_iter().enumerate() {
        let sink = one(n + 1, &mut section)?;
        if sinks.iter().any(|other| other.name == sink.name) {
            return Err(section.error(&format!("there is another sink with the name {}", quoted(&sink.name))));
        }
        if let SinkKind::Jsonl(jsonl) = &sink.kind
            && !paths.insert(jsonl.path.clone())
        {
            let path = quoted(&jsonl.path.to_string_lossy());
            return Err(section.error(&format!("another sink writes to {path} already")));
        }
        section.finish()?;
        sinks.push(sink);
    }
    Ok(sinks)
}

fn one(n: usize, section: &mut Section<'_>) -> Result<SinkSettings, Error> {
    let kind = section.required("kind")?;
    let name = section.text("name")?;
    let name = match &name {
        None => format!("{}-{n}", kind.value),
        Some(name) => {
            let parsed = name.value.parse::<Name>();
            parsed.map_err(|e| section.bad(name, &e.message).hint(e.hint))?.to_string()
        }
    };
    let read = match &*kind.value {
        "jsonl" => SinkKind::Jsonl(jsonl(section)?),
        "opensearch" => SinkKind::OpenSearch(opensearch(section)?),
        other => {
            let message = format!("'kind' is one of \"jsonl\", \"opensearch\", not {}", quoted(other));
            return Err(section.bad(&kind, &message));
        }
    };
    Ok(SinkSettings { name, kind: read })
}

fn jsonl(section: &mut Section<'_>) -> Result<JsonlSettings, Error> {
    let path = section.required("path")?;
    let path = absolute(section, "path", &path)?;
    if path.file_name().is_none() || path.as_os_str().to_string_lossy().ends_with('/') {
        return Err(section.error(&format!("{}: 'path' is to name a file", section.title())));
    }
    Ok(JsonlSettings {
        path,
        max_size: section.size("max_size", 4096..=1 << 40)?.unwrap_or(64 << 20),
        max_files: section
            .integer("max_files", 1..=100)?
            .map_or(5, |n| u32::try_from(n).expect("at most 100")),
    })
}

fn opensearch(section: &mut Section<'_>) -> Result<OpenSearchSettings, Error> {
    let url = section.required("url")?;
    let uri = parse_url(&url.value).map_err(|why| section.bad(&url, &format!("bad 'url': {why}")))?;
    if uri.scheme_str() == Some("https") && !cfg!(feature = "gateway") {
        let message = "this provost was built without TLS";
        return Err(section
            .bad(&url, message)
            .hint("write http, or take one that was built with the feature gateway"));
    }
    let index = section.text("index")?;
    if let Some(index) = index.as_ref().filter(|index| !is_index(&index.value)) {
        let message = format!("bad 'index' {}", quoted(&index.value));
        return Err(section
            .bad(index, &message)
            .hint("an index is 1 to 255 of a-z 0-9 . _ -, and begins with a letter or a digit"));
    }
    let login = login(section)?;
    if login.is_some() && uri.scheme_str() == Some("http") && !is_loopback(&uri) {
        return Err(section.bad(&url, "the password would cross the network in clear text: write https"));
    }
    Ok(OpenSearchSettings {
        url: url.value.trim_end_matches('/').to_owned(),
        index: index.map_or_else(|| "provost-events".to_owned(), |index| index.value.into_owned()),
        login,
        ca: ca(section)?,
        batch: section
            .integer("batch", 1..=10_000)?
            .map_or(500, |n| usize::try_from(n).expect("at most 10000")),
        timeout: section
            .duration("timeout", Duration::from_millis(100)..=Duration::from_secs(300))?
            .unwrap_or(Duration::from_secs(10)),
    })
}

fn login(section: &mut Section<'_>) -> Result<Option<Login>, Error> {
    let (username, file) = (section.text("username")?, section.text("password_file")?);
    let (username, file) = match (username, file) {
        (None, None) => return Ok(None),
        (Some(username), Some(file)) => (username, file),
        (Some(_), None) => return Err(section.error("with 'username' goes 'password_file'")),
        (None, Some(_)) => return Err(section.error("with 'password_file' goes 'username'")),
    };
    if username.value.is_empty() || username.value.contains(|c: char| c == ':' || c.is_control()) {
        return Err(section.bad(&username, "'username' is not empty, and holds no colon"));
    }
    let path = absolute(section, "password_file", &file)?;
    let password = files::password(&path).map_err(|why| {
        section.bad(&file, &format!("cannot take {} as 'password_file': {why}", quoted(&file.value)))
    })?;
    Ok(Some(Login { username: username.value.into_owned(), password: Secret::new(password) }))
}

fn ca(section: &mut Section<'_>) -> Result<Option<Vec<u8>>, Error> {
    let Some(file) = section.text("ca_file")? else { return Ok(None) };
    let path = absolute(section, "ca_file", &file)?;
    let read = files::read(&path, CA_LEN_MAX).and_then(|pem| {
        if has_certificate(&pem) { Ok(pem) } else { Err("there is no certificate in it (PEM)".to_owned()) }
    });
    read.map(Some).map_err(|why| {
        section.bad(&file, &format!("cannot take {} as 'ca_file': {why}", quoted(&file.value)))
    })
}

#[cfg(feature = "gateway")]
fn has_certificate(pem: &[u8]) -> bool {
    use ureq::tls::{PemItem, parse_pem};
    parse_pem(pem).any(|item| matches!(item, Ok(PemItem::Certificate(_))))
}

/// Nothing comes of it: without TLS, an `https` URL is refused.
#[cfg(not(feature = "gateway"))]
fn has_certificate(_: &[u8]) -> bool {
    false
}

fn absolute(section: &Section<'_>, key: &str, path: &At<impl AsRef<str>>) -> Result<PathBuf, Error> {
    let text = path.value.as_ref();
    if Path::new(text).is_absolute() && !text.contains('\0') {
        return Ok(PathBuf::from(text));
    }
    Err(section.bad(path, &format!("'{key}' is an absolute path, not {}", quoted(text))))
}

fn parse_url(url: &str) -> Result<Uri, String> {
    let uri = url.parse::<Uri>().map_err(|e| e.to_string())?;
    let form = "it is written http://HOST:PORT or https://HOST:PORT";
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(form.to_owned());
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("a password does not belong there: write 'username' and 'password_file'".to_owned());
    }
    if uri.query().is_some() || url.contains('#') {
        return Err(format!("{form}, without a query"));
    }
    Ok(uri)
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_index(name: &str) -> bool {
    let part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let first = name.bytes().next();
    name.len() <= 255 && name.bytes().all(part) && first.is_some_and(|b| b.is_ascii_alphanumeric())
}
