"""The one way from a rented host to the Prefect API: what its worker and its one flow run need, and nothing else."""
