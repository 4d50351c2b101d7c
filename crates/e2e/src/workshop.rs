//! The shell of `corten workshop`, typed into, in namespaces of its own: nothing of the machine is touched, and all of it
//! ends with the test's process.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Longest wait for one command.
const LIMIT: Duration = Duration::from_secs(120);
/// Ends the output of a command.
const MARK: &str = "---typed---";
/// The machine's name inside.
pub const HOST: &str = "dmuc1";

/// Before the shell: folders of the components' own, cgroups as the namespace shows them, a network with one address.
const ENTER: &str = r#"
set -e
mount --make-rprivate /
for dir in /run /var/lib /var/log; do mount -t tmpfs none $dir; done
awk '$3 == "cgroup" || $3 == "cgroup2" { print $2, $3, $4 }' /proc/self/mounts | while read -r dir kind options; do
    umount "$dir"
    if [ "$kind" = cgroup2 ]; then
        mount -t cgroup2 none "$dir"
        # Where a group has members, its children get no controllers.
        mkdir -p "$dir/shell"
        echo $$ > "$dir/shell/cgroup.procs"
    else
        controllers=$(echo "$options" | tr , '\n' | grep -vE '^(rw|ro|nosuid|nodev|noexec|relatime|seclabel)$' | paste -sd ,)
        mount -t cgroup -o "$controllers" cgroup "$dir"
    fi
done
hostname "$WORKSHOP_HOST"
ip link set lo up
ip link add eth0 type bridge
ip address add 192.168.77.5/24 dev eth0
ip link set eth0 up
ip route add default via 192.168.77.1
cd "$HOME"
# Not by exec: the shell reaps what is orphaned here.
"$CORTEN_BIN" workshop
"#;

/// What a command has said.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// What it printed, to standard output and error.
    pub text: String,
}

/// An open workshop; dropping it ends everything in it.
pub struct Workshop {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    home: tempfile::TempDir,
    group: Vec<PathBuf>,
}

/// cgroups of the workshop's own, one per hierarchy, so that `/kubepods` inside is below them and nobody else's.
fn own_cgroups(name: &str) -> Result<Vec<PathBuf>> {
    let hierarchies = sys::cgroup::Hierarchies::detect().context("find the cgroups")?;
    let group = hierarchies.group(format!("/{name}"));
    group.create().context("make cgroups")?;
    Ok(group.directories())
}

impl Workshop {
    /// Opens one.
    ///
    /// # Errors
    /// A program or a right is missing.
    pub fn open(binary: &Path, kubectl: &Path) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("corten-workshop-").tempdir().context("make a home")?;
        let group = own_cgroups(&format!("corten-e2e-workshop-{}", std::process::id()))?;
        let enter: String = group.iter().map(|dir| format!("echo 0 > {}/cgroup.procs\n", dir.display())).collect();
        let script = format!(
            "{enter}exec unshare --mount --net --pid --uts --ipc --cgroup --fork --kill-child=KILL --mount-proc sh -c \"$WORKSHOP_ENTER\""
        );
        let path = std::env::var("PATH").unwrap_or_default();
        let tools = kubectl.parent().context("where kubectl is")?.display().to_string();
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .env("WORKSHOP_ENTER", ENTER)
            .env("WORKSHOP_HOST", HOST)
            .env("CORTEN_BIN", binary)
            .env("HOME", home.path())
            .env("SHELL", "/bin/bash")
            .env("PATH", format!("{tools}:{path}:/usr/sbin:/sbin"))
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("start unshare")?;
        let input = child.stdin.take().context("no pipe to the shell")?;
        let output = child.stdout.take().context("no pipe from the shell")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, input, lines, home, group })
    }

    /// A file of the folder that the shell is in.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Types a command and waits for its end, whatever its exit code.
    ///
    /// # Errors
    /// It does not end, or the shell is gone.
    pub fn run(&mut self, command: &str) -> Result<Answer> {
        writeln!(self.input, "{{ {command}\n}} 2>&1 </dev/null; code=$?; echo; echo {MARK} $code").context("type")?;
        self.input.flush().context("type")?;
        let mut text = String::new();
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => match line.strip_prefix(MARK) {
                    Some(code) => {
                        let code = code.trim().parse().context("an exit code")?;
                        return Ok(Answer { code, text: text.trim().to_owned() });
                    }
                    None => {
                        text.push_str(&line);
                        text.push('\n');
                    }
                },
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{command} does not end within {} s; so far: {text}", LIMIT.as_secs());
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the shell ended at {command}: {text}"),
            }
        }
    }

    /// Types a command that must succeed, and gives what it printed.
    ///
    /// # Errors
    /// As [`Workshop::run`]; or it failed.
    pub fn ok(&mut self, command: &str) -> Result<String> {
        let answer = self.run(command)?;
        if answer.code != 0 {
            bail!("{command} failed with {}: {}", answer.code, answer.text);
        }
        Ok(answer.text)
    }

    /// Types a command that must fail, and gives what it printed.
    ///
    /// # Errors
    /// As [`Workshop::run`]; or it succeeded.
    pub fn fails(&mut self, command: &str) -> Result<String> {
        let answer = self.run(command)?;
        if answer.code == 0 {
            bail!("{command} should have failed, but: {}", answer.text);
        }
        Ok(answer.text)
    }

    /// Starts a component as in a terminal of its own and waits until its log has a text, if one is given. Its log is `NAME.log`, its
    /// process id the shell's variable `NAME`.
    ///
    /// # Errors
    /// The text does not come.
    pub fn start(&mut self, name: &str, command: &str, until: &str) -> Result<()> {
        self.ok(&format!("{command} > {name}.log 2>&1 & {name}=$!"))?;
        if until.is_empty() { Ok(()) } else { self.log_has(name, until) }
    }

    /// Follows a component's log until it has a text.
    ///
    /// # Errors
    /// The text does not come.
    pub fn log_has(&mut self, name: &str, text: &str) -> Result<()> {
        let command = format!("grep -m1 -qF '{text}' <(timeout 60 tail -n +1 -F {name}.log 2>/dev/null)");
        self.ok(&command).with_context(|| format!("{name} does not say {text:?}; it says: {}", self.tail(name)))?;
        Ok(())
    }

    /// Ends a component with Ctrl-C and waits for its end.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self, name: &str) -> Result<()> {
        self.ok(&format!("kill -INT ${name}; wait ${name}"))?;
        Ok(())
    }

    /// Watches `kubectl get WHAT -w` until a line fits a pattern of grep.
    ///
    /// # Errors
    /// None comes.
    pub fn until(&mut self, get: &str, pattern: &str) -> Result<String> {
        self.ok(&format!("grep -m1 -E '{pattern}' <(timeout 60 kubectl get {get} -w)"))
            .with_context(|| format!("no {pattern:?} in: kubectl get {get} -w"))
    }

    /// The end of a component's log.
    pub fn tail(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.file(&format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // `unshare` takes the first process of the PID namespace with it, and the kernel all the others.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Ok(hierarchies) = sys::cgroup::Hierarchies::detect()
            && let Some(name) = self.group.first().and_then(|dir| dir.file_name()?.to_str())
        {
            let group = hierarchies.group(format!("/{name}"));
            let killed = group.kill();
            // The kernel takes the last members away a moment after they died.
            if !group.wait_empty(LIMIT) {
                eprintln!("something in the workshop does not end");
            }
            if let Err(error) = killed.and_then(|()| group.remove()) {
                eprintln!("cannot remove the workshop's cgroups: {error}");
            }
        }
    }
}
