"""Pull any plug at any moment: nothing may be lost, doubled or leaked, and an independent checker says so.

::

    python -m chaos          worker processes ── macbind.Client ──► macbind serve ── proxy ──► dhcpd
    (rounds, faults,              │    │                              │ chaos.daemon wraps it
     checker)                     │    └─ omshell, past the proxy ───────────────────────────► dhcpd
                                  ▼                                   ▼
                              journals                        SQLite or PostgreSQL      libvirtd, QEMU

A run is a series of *rounds*. In each, processes allocate, group, release, pin and start and destroy domains with
all their strength, while the harness pulls plugs by a schedule drawn from the seed; then every fault is mended,
macbind has a deadline to recover, and the checker compares four witnesses: what callers were told, what SQL says,
what dhcpd says to omshell, and what machines get by DHCP. Allocations live on from round to round. At the end
everything is released, nothing may be left anywhere, and every pool must be good for its last address.

=============  ===========================================================================================
`journal`      what each caller asked and was told: one JSON line per event, kept whatever dies
`history`      journals → who owned which address when, what must exist now, what cannot be (pure)
`worker`       the load of one process, and its own checks directly after an answer
`domains`      the same for one process that starts and destroys libvirt domains
`seams`        the only place that knows macbind's inside: named steps at which the daemon can be killed
`plants`       bugs to plant, with the faults that bring each to light: a checker that cannot fail proves nothing
`daemon`       `macbind serve` with seams and plants; product code has no failpoints
`proxy`        the wire between macbind and dhcpd: refuses, cuts, slows down, swallows
`faults`       everything that can be broken, each with its mending
`schedule`     what is broken when: drawn from the seed alone
`pools`        their addresses, and those of the harness itself
`site`         one lab: network, dhcpd, registry, libvirtd, macbind, workers
`sql`          the registry's tables, read without macbind
`checker`      compares the witnesses after a round and at the end
`secrets`      no secret in any log, journal, process, answer, file or registry
`campaign`     rounds, their budget of time, the report
=============  ===========================================================================================

Checks that depend on dhcpd at this very moment are decided only when no fault touched dhcpd between the question
and the check: the harness counts such faults in an *epoch* that all processes share. The undecided are counted.

Three sites take turns: SQLite with libvirt, PostgreSQL, and SQLite with clocks that jump (libfaketime makes each
look at the clock so slow that it has a site of its own).
"""
