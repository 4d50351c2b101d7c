//! Pseudo terminals.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::{Context, Result};

/// Both ends of a terminal of the devpts instance that is mounted at /dev/pts of this process' root.
///
/// # Errors
/// The kernel's; `ENOENT` where no /dev/ptmx is there.
pub fn open() -> Result<(OwnedFd, OwnedFd)> {
    const PATH: &str = "/dev/ptmx";
    let master =
        rustix::fs::open(PATH, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).at("open", PATH)?;
    grantpt(&master).at("grant terminal", PATH)?;
    unlockpt(&master).at("unlock terminal", PATH)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).at("open terminal", PATH)?;
    Ok((master, slave))
}

/// Makes `terminal` the controlling terminal of this process, which must lead a session.
///
/// # Errors
/// The kernel's.
pub fn make_controlling(terminal: impl AsFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).at("set controlling terminal", "")
}

/// Sets the size in characters.
///
/// # Errors
/// The kernel's.
pub fn resize(terminal: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}
