//! Reading passwd and group files of an image.

/// One line of a passwd file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passwd {
    /// Name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}

/// One line of a group file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Names of its members.
    pub members: Vec<String>,
}

/// The well-formed lines of a passwd file.
pub fn passwd(text: &str) -> impl Iterator<Item = Passwd> + '_ {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?.to_owned();
        let (_password, uid, gid) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let home = fields.nth(1).unwrap_or("").to_owned();
        Some(Passwd { name, uid, gid, home })
    })
}

/// The well-formed lines of a group file.
pub fn group(text: &str) -> impl Iterator<Item = Group> + '_ {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?.to_owned();
        let (_password, gid) = (fields.next()?, fields.next()?.parse().ok()?);
        let members = fields.next().unwrap_or("").split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
        Some(Group { name, gid, members })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_are_read_and_bad_ones_left_out() {
        let users: Vec<_> = super::passwd("root:x:0:0:root:/root:/bin/sh\nbad\nu:x:5:6::/h\n").collect();
        assert_eq!((users.len(), users[1].uid, users[1].home.as_str()), (2, 5, "/h"));
        let groups: Vec<_> = super::group("g:x:9:a,b\nh:x:7\n").collect();
        assert_eq!((groups[0].members.len(), groups[1].gid), (2, 7));
    }
}
