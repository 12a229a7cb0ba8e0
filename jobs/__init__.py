"""What a person asks for: a module for each job, and what makes a job durable."""
