"""The stream contract, stated once and run over every backend. Read in this order, it is a tutorial:

1. `test_appending`: what a producer may write, and what the store answers.
   `test_lanes`: the same without waiting.
2. `test_joining`: what a viewer sees, whenever it comes.
3. `test_schedules`: both at once, in every order that can be thought up, on connections that break.
4. `test_resuming`: where a client goes on that comes back, row by row of the contract's table.
5. `test_attempts`: a second producer takes over from a first.
6. `test_cancelling`: somebody wants it to stop.
7. `test_leases`: the producer is lost, and exactly one of its viewers says so.
8. `test_slowness`: viewers who are slow, or fail, or leave.
9. `test_offers`: entries that are taken where they are heard.
10. `test_expiry`: nothing lives for ever.

The backends are in `backends`, the moves of producers and viewers in `moves`. What a backend does beyond the contract
is at the end: `test_shared_subscription`, `test_shared_read`, `test_cluster`.
"""
