"""Pull any plug at any moment: nothing may be lost, doubled or leaked, and an independent checker says so.

::

    python -m chaos          worker processes ── macbind.Client ──► macbind serve ── proxy ──► dhcpd
    (rounds, faults,              │    │                              │ chaos.daemon wraps it
     checker)                     │    └─ omshell, past the proxy ───────────────────────────► dhcpd
                                  ▼                                   ▼
                              journals                        SQLite or PostgreSQL      libvirtd, QEMU

A run is a series of *rounds*. In each, processes allocate, group, release, pin and start and destroy domains with
all their strength, while the harness pulls plugs by a schedule drawn from the seed; then there is a calm, every fault
is mended, macbind has a deadline to recover, and the checker compares four witnesses: what callers were told, what
SQL says, what dhcpd says to omshell, and what machines get by DHCP. Allocations live on from round to round. At the
end everything is released, nothing may be left anywhere, and every pool must be good for its last address.

macbind is not alone. Around it is a site: machines with static addresses, an admin with omshell, a second DHCP
server, domains with stolen MACs, machines that are saved, reboot and have a second life, a hypervisor that freezes,
and an older registry that is put back. What is in use must not be handed out, and who lives must keep what is his.

Between those comparisons a lookout asks dhcpd all the time about machines drawn at random from all that live.
macbind compares everything every two seconds, and old lease files are put back. By the seed, either SQLite or
PostgreSQL has a crowd that stays for the whole run: more than three times as many machines as a usual piece of
macbind's work holds, with holes between them where others come and go. The other one has few machines, and each start
of macbind cuts its work into other tiny pieces, of 1, 2, 3 or 7. With the next seed it is the other way round.

=============  ===========================================================================================
`journal`      what each caller asked and was told: one JSON line per event, kept whatever dies
`history`      journals → who owned which address when, what must exist now, what cannot be (pure)
`worker`       the load of one process, and its own checks directly after an answer
`domains`      the same for one process that starts, saves, reboots and destroys libvirt domains, and has thieves
`lives`        what that process knows of domains
`neighbours`   strangers, foreign hosts and a second DHCP server that come and go
`others`       what that process knows of them
`attackers`    those that mean harm in some rounds: what they have in common
`attack_guest` a guest that speaks DHCP in the names of others
`attack_user`  a user of the socket who takes every place and asks odd things
`attack_owner` an owner of domains that say they are others' machines
`latency`      what attackers cost the others (pure)
`presences`    who else used addresses when, and what was handed out meanwhile (pure)
`restored`     puts an older registry back between two rounds, while machines run that it has forgotten
`seams`        the only place that knows macbind's inside: named steps at which the daemon can be killed
`plants`       bugs to plant, with the faults that bring each to light: a checker that cannot fail proves nothing
`lookout`      proves all the time that every confirmed allocation is served; it says by which rule
`pieces`       how large the pieces are that macbind cuts its work into
`daemon`       `macbind serve` with seams, plants and pieces; product code has no failpoints
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
