"""fnrun beside its peers: what `make bench` runs.

web/ measures HTTP, jobs/ the queue; the rest is what both need. The peers' programs are in apps/, what they are made
of in peers/*.txt. Nothing here judges a figure; everything listens on and talks to 127.0.0.1 only.
"""
