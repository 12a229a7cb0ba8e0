"""What every folder of hw1 uses: errors, plain records, atomic writes, the numerics profile."""
