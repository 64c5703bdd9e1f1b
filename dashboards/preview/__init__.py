"""Pictures of the dashboards without Grafana: their own queries, asked of a Prometheus and drawn by us."""
