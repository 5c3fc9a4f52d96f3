//! How a provider says where it listens: one line of its standard output, `PROVIDER_PORT=<n>`. A line
//! `PROVIDER_FEATURES=<name>,<name>` before it says what else it can. Pure: it is given bytes as they come.

/// What the line begins with. Some guides for authors have the second one.
const KEYS: [&[u8]; 2] = [b"PROVIDER_PORT=", b"PORT="];
/// What the line begins with that says what a provider can.
const FEATURES_KEY: &[u8] = b"PROVIDER_FEATURES=";
/// The longest line that is read, in bytes.
pub const LINE_LEN_MAX: usize = 64 << 10;
/// How much of what was wrong is kept, in bytes.
pub const SHOWN_LEN_MAX: usize = 200;

/// What has come of standard output so far, as far as it matters.
#[derive(Debug, Default)]
pub struct PortReader {
    /// The line that is not whole yet.
    line: Vec<u8>,
    features: Features,
}

/// What a provider may offer beyond the protocol, and a host may ask for. The names of others mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Features {
    /// Mutual TLS with the certificates of its launch.
    pub tls: bool,
    /// It proves who it is by the token of its launch.
    pub cookie: bool,
}

impl Features {
    /// As the line has them.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        [("tls", self.tls), ("cookie", self.cookie)]
            .into_iter()
            .filter_map(|(name, is_there)| is_there.then_some(name))
            .collect()
    }

    /// The first that is wanted and not offered.
    #[must_use]
    pub fn missing_from(self, offered: Self) -> Option<&'static str> {
        self.names().into_iter().find(|name| !offered.names().contains(name))
    }

    fn add(&mut self, list: &[u8]) {
        for name in list.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            self.tls |= name == b"tls";
            self.cookie |= name == b"cookie";
        }
    }
}

/// The line that was to tell the port, and why it does not; at most [`SHOWN_LEN_MAX`] bytes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    pub why: &'static str,
    pub line: Vec<u8>,
}

impl PortReader {
    /// Takes in what came next; the port, as soon as its line is whole. Lines before it are skipped.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<u16>, BadLine> {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            self.add(&bytes[..end])?;
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            if let Some(list) = line.strip_prefix(FEATURES_KEY) {
                self.features.add(list);
            }
            if let Some(port) = port(&line)? {
                return Ok(Some(port));
            }
        }
        self.add(bytes)?;
        Ok(None)
    }

    /// Standard output has ended: a last line counts without its newline.
    pub fn end(&mut self) -> Result<Option<u16>, BadLine> {
        port(&std::mem::take(&mut self.line))
    }

    /// What it has said that it can, before its port.
    pub fn features(&self) -> Features {
        self.features
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), BadLine> {
        if self.line.len() + bytes.len() > LINE_LEN_MAX {
            self.line.extend_from_slice(&bytes[..bytes.len().min(SHOWN_LEN_MAX)]);
            return Err(bad("a line of more than 64 KiB", &self.line));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }
}

fn bad(why: &'static str, line: &[u8]) -> BadLine {
    BadLine { why, line: line[..line.len().min(SHOWN_LEN_MAX)].to_vec() }
}

/// The port of a line that tells one; none: another line.
fn port(line: &[u8]) -> Result<Option<u16>, BadLine> {
    let text = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(number) = KEYS.iter().find_map(|key| text.strip_prefix(*key)) else { return Ok(None) };
    let is_decimal = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    let parsed = std::str::from_utf8(number).ok().filter(|_| is_decimal).and_then(|n| n.parse().ok());
    match parsed {
        Some(port) if port > 0 => Ok(Some(port)),
        _ => Err(bad("the port is not a number from 1 to 65535", line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[&[u8]]) -> Result<Option<u16>, BadLine> {
        let mut reader = PortReader::default();
        for part in parts {
            if let Some(port) = reader.feed(part)? {
                return Ok(Some(port));
            }
        }
        reader.end()
    }

    #[test]
    fn the_port_is_read_from_its_line_wherever_it_is() {
        let good: [&[&[u8]]; 8] = [
            &[b"PROVIDER_PORT=8080\n"],
            &[b"PORT=8080\n"],
            &[b"PROVIDER_PORT=8080\r\n"],
            &[b"PROVIDER_PORT=8080"],
            &[b"PROVIDER_PORT=08080\n"],
            &[b"hello\n\n PROVIDER_PORT=1\nPROVIDER_PORT=8080\nPROVIDER_PORT=2\n"],
            &[b"PROVIDER_", b"PORT=80", b"80\nmore"],
            &[b"\xff\xfe\0\nPROVIDER_PORT=8080\n"],
        ];
        for parts in good {
            assert_eq!(read(parts), Ok(Some(8080)), "{parts:?}");
        }
        for none in [&b""[..], b"PORTS=1\n", b"provider_port=1\n", b" PORT=1\n", b"XPORT=1\n"] {
            assert_eq!(read(&[none]), Ok(None), "{none:?}");
        }
    }

    #[test]
    fn features_are_those_that_were_named_before_the_port() {
        let said = |text: &[u8]| {
            let mut reader = PortReader::default();
            assert_eq!(reader.feed(text), Ok(Some(1)));
            reader.features().names().join(" ")
        };
        assert_eq!(said(b"PROVIDER_FEATURES=tls,cookie\nPORT=1\n"), "tls cookie");
        assert_eq!(said(b"PROVIDER_FEATURES= cookie, quic/3,\r\nPORT=1\n"), "cookie");
        assert_eq!(said(b"PROVIDER_FEATURES=tls\nPROVIDER_FEATURES=cookie\nPORT=1\n"), "tls cookie");
        let none: [&[u8]; 4] = [
            b"PORT=1\n",
            b"PROVIDER_FEATURES=tlsx\nPORT=1\n",
            b" PROVIDER_FEATURES=tls\nPORT=1\n",
            b"PORT=1\nPROVIDER_FEATURES=tls\n",
        ];
        for text in none {
            assert_eq!(said(text), "");
        }
        let both = Features { tls: true, cookie: true };
        let tls = Features { tls: true, cookie: false };
        assert_eq!((both.missing_from(tls), tls.missing_from(both)), (Some("cookie"), None));
        assert_eq!(Features::default().missing_from(Features::default()), None);
    }

    #[test]
    fn what_is_no_port_is_shown() {
        let numbers =
            ["0", "65536", "-1", "+80", " 80", "80 ", "8o", "", "99999999999999999999", "0x50", "८०"];
        for number in numbers {
            let line = format!("PROVIDER_PORT={number}");
            let refused = read(&[line.as_bytes(), b"\n"]).unwrap_err();
            assert_eq!(refused.line, line.as_bytes());
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let line = vec![b'x'; 40 << 10];
        let refused = read(&[&line, &line, b"\nPROVIDER_PORT=1\n"]).unwrap_err();
        assert_eq!(refused.line.len(), SHOWN_LEN_MAX);
        assert_eq!(read(&[&line, b"\nPROVIDER_PORT=1\n"]), Ok(Some(1)));
    }
}
