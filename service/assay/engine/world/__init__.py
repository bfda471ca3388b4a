"""Models, endpoints, tenants, requests, and the identity of endpoints across imports."""
