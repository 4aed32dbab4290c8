output "job" {
  description = "The job's name, to run the job by hand with gcloud run jobs execute."
  value       = google_cloud_run_v2_job.backups.name
}

output "schedule" {
  description = "The schedule's name."
  value       = google_cloud_scheduler_job.backups.name
}
