//! One file per address, under a lock.

use super::range::{Range, from_number, to_number};
use crate::error::{Error, Result, code};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Between container id and interface name; carriage return included, as upstream writes it.
const BREAK: &str = "\r\n";

/// A network's addresses, locked against other processes and threads while this value lives.
pub struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens and locks the directory, creating it.
    ///
    /// # Errors
    /// When it cannot be created or locked.
    pub fn open(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let path = dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| Error::io(&path, e))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(|e| Error::io(&path, e.into()))?;
        Ok(Self { dir: dir.to_owned(), _lock: file })
    }

    fn last(&self, set: usize) -> PathBuf {
        self.dir.join(format!("last_reserved_ip.{set}"))
    }

    /// Takes an address from the set: the one asked for, or the next after the last one taken.
    pub(super) fn reserve(
        &self,
        ranges: &[Range],
        set: usize,
        wanted: Option<IpAddr>,
        id: &str,
        ifname: &str,
    ) -> Result<(IpNet, IpAddr)> {
        let (ip, range) = match wanted {
            Some(ip) => self.reserve_wanted(ranges, set, ip, id, ifname)?,
            None => {
                self.refuse_duplicates(ranges, id, ifname)?;
                self.reserve_next(ranges, set, id, ifname)?
            }
        };
        let subnet = range.subnet.ok_or_else(|| Error::config("range without a subnet"))?;
        let address = IpNet::new(ip, subnet.prefix_len()).map_err(|e| Error::internal("prefix", e))?;
        Ok((address, range.gateway.unwrap_or(ip)))
    }

    fn reserve_wanted<'a>(
        &self,
        ranges: &'a [Range],
        set: usize,
        ip: IpAddr,
        id: &str,
        ifname: &str,
    ) -> Result<(IpAddr, &'a Range)> {
        let range = ranges
            .iter()
            .find(|r| r.contains(ip))
            .ok_or_else(|| Error::config(format!("requested IP {ip} is in no range")))?;
        if range.gateway == Some(ip) {
            return Err(Error::config(format!("requested ip {ip} is subnet's gateway")));
        }
        if !self.take(ip, set, id, ifname)? {
            return Err(Error::new(code::INTERNAL, format!("requested IP address {ip} is not available in range set")));
        }
        Ok((ip, range))
    }

    fn refuse_duplicates(&self, ranges: &[Range], id: &str, ifname: &str) -> Result<()> {
        match self.held(id, ifname)?.into_iter().find(|ip| ranges.iter().any(|r| r.contains(*ip))) {
            Some(ip) => Err(Error::new(
                code::INTERNAL,
                format!("{ip} has been allocated to {id}, duplicate allocation is not allowed"),
            )),
            None => Ok(()),
        }
    }

    /// Every address once, from the one after the last reserved.
    fn reserve_next<'a>(&self, ranges: &'a [Range], set: usize, id: &str, ifname: &str) -> Result<(IpAddr, &'a Range)> {
        let last: Option<IpAddr> = fs::read_to_string(self.last(set)).ok().and_then(|t| t.trim().parse().ok());
        let first_range = last.and_then(|ip| ranges.iter().position(|r| r.contains(ip)));
        let begin = first_range.unwrap_or(0);
        for step in 0..=ranges.len() {
            let range = &ranges[(begin + step) % ranges.len()];
            let Some((low, high, v4)) = range.span() else { continue };
            // The first range is entered after the last address, and its beginning is looked at last.
            let (from, to) = match (step, last.filter(|_| first_range.is_some()).map(to_number)) {
                (0, Some(last)) => (last + 1, high),
                (n, Some(last)) if n == ranges.len() => (low, last),
                (n, None) if n == ranges.len() => break,
                _ => (low, high),
            };
            for number in from..=to {
                let ip = from_number(number, v4);
                if range.gateway != Some(ip) && self.take(ip, set, id, ifname)? {
                    return Ok((ip, range));
                }
            }
        }
        Err(Error::new(code::INTERNAL, format!("no IP addresses available in range set {set}")))
    }

    /// Writes the address's file unless it is there.
    fn take(&self, ip: IpAddr, set: usize, id: &str, ifname: &str) -> Result<bool> {
        let path = self.dir.join(ip.to_string());
        let mut file = match File::options().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(e) => return Err(Error::io(&path, e)),
        };
        if let Err(e) = file.write_all(format!("{id}{BREAK}{ifname}").as_bytes()) {
            // A half-written file would hold the address for nobody.
            let _ = fs::remove_file(&path);
            return Err(Error::io(&path, e));
        }
        let last = self.last(set);
        fs::write(&last, ip.to_string()).map_err(|e| Error::io(&last, e))?;
        Ok(true)
    }

    /// Addresses and the content of their files.
    pub(super) fn all(&self) -> Result<BTreeMap<IpAddr, String>> {
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).map_err(|e| Error::io(&self.dir, e))? {
            let entry = entry.map_err(|e| Error::io(&self.dir, e))?;
            let Some(ip) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            let path = entry.path();
            all.insert(ip, fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?);
        }
        Ok(all)
    }

    /// Addresses held by an attachment; files without an interface name (older upstream) match by id.
    pub(super) fn held(&self, id: &str, ifname: &str) -> Result<Vec<IpAddr>> {
        let ours = |text: &str| match text.trim().split_once(BREAK) {
            Some((i, n)) => i == id && n == ifname,
            None => text.trim() == id,
        };
        Ok(self.all()?.into_iter().filter(|(_, text)| ours(text)).map(|(ip, _)| ip).collect())
    }

    /// Gives back what an attachment holds.
    pub(super) fn release(&self, id: &str, ifname: &str) -> Result<()> {
        self.held(id, ifname)?.into_iter().try_for_each(|ip| self.remove(ip))
    }

    fn remove(&self, ip: IpAddr) -> Result<()> {
        let path = self.dir.join(ip.to_string());
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(&path, e)),
            _ => Ok(()),
        }
    }

    /// Gives back what belongs to no attachment of `valid`.
    pub(super) fn retain(&self, valid: &[(String, String)]) -> Result<()> {
        for (ip, text) in self.all()? {
            let text = text.trim();
            let (id, ifname) = text.split_once(BREAK).unwrap_or((text, ""));
            if !valid.iter().any(|(i, n)| i == id && (ifname.is_empty() || n == ifname)) {
                self.remove(ip)?;
            }
        }
        Ok(())
    }
}
