"""Writes timers for ``pgstow run``, as text for systemd, cron or Kubernetes."""

import json
import shlex
from dataclasses import dataclass
from typing import Literal

Every = Literal["hour", "day", "week", "month"]

_MEMORY = "1G"
"""The most memory that a run takes with the default limits: 128 MiB of data, pgstow itself, and pg_dump's processes."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The times of runs, and the configuration."""

    hour: int
    minute: int
    every: Every
    """How often to run. For hourly runs, ``hour`` is ignored. Weekly runs are on Sunday, monthly runs on the first day of the month."""
    spread: int
    """The longest random wait before each run, in seconds."""
    config: str
    """The path of pgstow.toml on the machine that runs pgstow, or in the container."""

    @property
    def cron(self) -> str:
        """The schedule in the five fields of cron and Kubernetes."""
        return {
            "hour": f"{self.minute} * * * *",
            "day": f"{self.minute} {self.hour} * * *",
            "week": f"{self.minute} {self.hour} * * 0",
            "month": f"{self.minute} {self.hour} 1 * *",
        }[self.every]

    @property
    def calendar(self) -> str:
        """The schedule in the format of systemd's OnCalendar."""
        moment = f"{self.hour:02d}:{self.minute:02d}:00"
        return {
            "hour": f"*-*-* *:{self.minute:02d}:00",
            "day": f"*-*-* {moment}",
            "week": f"Sun *-*-* {moment}",
            "month": f"*-*-01 {moment}",
        }[self.every]


def systemd_units(schedule: Schedule, program: str, *, user: str, on_failure: str | None) -> dict[str, str]:
    """Return the text of a service and of its timer, by the names of their files.

    ``user`` is the name of the user who runs pgstow. ``on_failure`` is a unit to start when a run fails; None for no unit.
    """
    service = f"""\
[Unit]
Description=Back up PostgreSQL with pgstow
Wants=network-online.target
After=network-online.target postgresql.service
{f"OnFailure={on_failure}" if on_failure else "# OnFailure=  names a unit to start when a run fails"}

[Service]
# systemd starts no second run while a run is active, so runs don't overlap.
Type=oneshot
ExecStart={_systemd_word(program)} run --config {_systemd_word(schedule.config)} --log-format json
User={user}
# Secrets to which pgstow.toml refers: a NAME=value on each line. Give the file mode 0600.
EnvironmentFile=-/etc/pgstow/environment
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
MemoryMax={_MEMORY}
TasksMax=512
# Folders of stores and of the metrics must be writable, so they can't be in /usr, /boot, /etc or /home.
ProtectSystem=full
ProtectHome=read-only
# The folder in which pgstow remembers the chains of signed backups.
StateDirectory=pgstow
# With PrivateTmp, pgstow can't see a server's socket in /tmp: connect to localhost instead.
PrivateTmp=yes
PrivateDevices=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
UMask=0077
"""
    timer = f"""\
[Unit]
Description=When to back up PostgreSQL with pgstow

[Timer]
OnCalendar={schedule.calendar}
RandomizedDelaySec={schedule.spread}
# If the machine was off at the time of a run, the run begins when the machine is on again.
Persistent=true

[Install]
WantedBy=timers.target
"""
    return {"pgstow.service": service, "pgstow.timer": timer}


def _systemd_word(word: str) -> str:
    """Quote a word for ExecStart: https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html#Command%20lines."""
    word = word.replace("%", "%%").replace("$", "$$")
    if not word or set(word) & set(" \t\"'\\;"):
        return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return word


def crontab(schedule: Schedule, program: str) -> str:
    """Return a line for a user's crontab, with comments. cron mails what the command prints, which is only errors."""
    command = f"{shlex.quote(program)} run --config {shlex.quote(schedule.config)} --spread {schedule.spread}s --quiet"
    escaped = command.replace("%", r"\%")  # a bare % would end the command
    return f"""\
# Runs don't overlap: pgstow run locks its file, and a second run ends at once with exit code 11.
# If the machine is off at the time of a run, cron skips the run. systemd's timer makes up for it.
{schedule.cron} nice -n 10 {escaped} >/dev/null
"""


def cron_job(schedule: Schedule, *, image: str, time_zone: str | None) -> str:
    """Return a CronJob as YAML.

    The CronJob needs a ConfigMap named pgstow. If the file refers to the environment, it also needs a Secret named pgstow. ``time_zone`` is
    None for the time zone of the Kubernetes cluster.
    """
    zone = f"  timeZone: {json.dumps(time_zone)}\n" if time_zone else ""
    return f"""\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: pgstow
  labels:
    app.kubernetes.io/name: pgstow
spec:
  schedule: {json.dumps(schedule.cron)}
{zone}  # If a run can't begin in time, it may begin up to four hours later. No run begins while another run is active.
  startingDeadlineSeconds: {4 * 3600}
  concurrencyPolicy: Forbid
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
      # With retries in pgstow.toml, pgstow itself retries a backup after errors that may be temporary.
      backoffLimit: 0
      template:
        metadata:
          labels:
            app.kubernetes.io/name: pgstow
        spec:
          restartPolicy: Never
          # This account's annotations or bindings give the store's credentials: EKS Pod Identity, IRSA, GKE Workload Identity.
          serviceAccountName: pgstow
          securityContext:
            runAsNonRoot: true
            runAsUser: 10001
            runAsGroup: 10001
            fsGroup: 10001
            seccompProfile:
              type: RuntimeDefault
          containers:
            - name: pgstow
              image: {json.dumps(image)}
              command: ["pgstow"]
              args: {json.dumps(["run", "--config", schedule.config, "--log-format", "json", "--spread", f"{schedule.spread}s"])}
              envFrom:
                - secretRef:
                    name: pgstow
                    optional: true
              resources:
                requests:
                  cpu: 500m
                  memory: 512Mi
                limits:
                  memory: {_MEMORY}i
                  ephemeral-storage: 1Gi
              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities:
                  drop: ["ALL"]
              volumeMounts:
                - name: config
                  mountPath: {json.dumps(_folder(schedule.config))}
                  readOnly: true
                - name: spool
                  mountPath: /tmp
          volumes:
            - name: config
              configMap:
                name: pgstow
            - name: spool
              emptyDir: {{}}
"""


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "/"
