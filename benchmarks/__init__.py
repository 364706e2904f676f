"""What phimill costs: run with `make bench`. Figures of one run on one machine; compare ratios, not seconds."""
