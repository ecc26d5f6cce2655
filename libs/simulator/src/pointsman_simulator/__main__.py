"""`python -m pointsman_simulator`."""

from pointsman_simulator.app import main

if __name__ == "__main__":
    main()
