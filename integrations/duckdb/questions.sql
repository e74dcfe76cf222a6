-- The six questions, for DuckDB.

-- question: slowest_routes
SELECT req_route, quantile_disc(resp_time, 0.95) AS p95, count(*) AS requests
FROM events WHERE event_type = 'request' AND req_route IS NOT NULL
GROUP BY req_route ORDER BY p95 DESC;

-- question: database_share
SELECT req_route, coalesce(sum(db_time), 0) / sum(resp_time) AS share, sum(resp_time) AS seconds
FROM events WHERE event_type = 'request' AND req_route IS NOT NULL
GROUP BY req_route ORDER BY seconds DESC;

-- question: worst_n1
SELECT db_n1_loc, sum(db_n1_time) AS seconds, count(*) AS requests
FROM events WHERE db_n1_loc IS NOT NULL
GROUP BY db_n1_loc ORDER BY seconds DESC;

-- question: errors_by_cause
SELECT event_type, exc_type, exc_cause_loc, timeout_cause_loc, lost_cause, count(*) AS requests
FROM events WHERE event_type IN ('timeout', 'lost') OR (event_type = 'request' AND resp_status >= 500)
GROUP BY event_type, exc_type, exc_cause_loc, timeout_cause_loc, lost_cause ORDER BY requests DESC;

-- question: queue_time
SELECT quantile_disc(req_queue_time, 0.95) AS p95, max(req_queue_time) AS longest, count(*) AS requests
FROM events WHERE req_queue_time IS NOT NULL;

-- question: saturation
SELECT avg(g_t_active / g_t_count) AS busy, max(g_backlog) AS backlog
FROM events WHERE event_type IN ('request', 'timeout', 'lost') AND g_t_count > 0;
