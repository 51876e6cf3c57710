/** A task as the server tells it. Times are Unix seconds. */
export interface Task {
  task_id: string;
  status: "pending" | "queued" | "processing" | "completed" | "failed";
  message?: string;
  /** Percent; never goes back. */
  progress?: number;
  stage?: string | null;
  pages_done?: number | null;
  pages_total?: number | null;
  /** Of a waiting task: 1 is next. */
  position?: number | null;
  /** Seconds until the answer, as the server reckons now. */
  estimated_time?: number | null;
  waiting_reason?: "slots" | "memory" | "upstream" | "paused" | null;
  /** This and the model are told in lists. */
  file_info?: { filename: string; size: number; type: string };
  model?: string;
  /** Told at submission. */
  config_applied?: { model: string; temperature: number; max_tokens: number };
  result?: Result | null;
  error?: string | null;
  error_type?: string | null;
  created_at?: number;
  started_at?: number | null;
  completed_at?: number | null;
  /** Seconds. */
  processing_time?: number | null;
}

/** A completed task's answer. */
export interface Result {
  content: string;
  model_used: string;
  /** `length` where the model was cut short. */
  finish_reason?: string;
  /** Whatever the reader of the answer must know: pages not used, answer cut short. */
  warnings?: string[];
  file_info: { filename: string; size: number; type: string };
  processing_metadata?: Record<string, unknown>;
  usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number };
  /** Whether it is the answer of an earlier task. */
  cached?: boolean;
}

/** Some of one's own tasks, newest first and without their results. */
export interface TaskList {
  tasks: Task[];
  /** Asks for those that follow; not there at the end. */
  next_cursor?: string;
}

export interface Models {
  models: { id: string; name: string; vision_capable: boolean; capabilities: string[] }[];
  default_model: string | null;
  vision_models: string[];
  model_configs: Record<string, Record<string, unknown>>;
}

export interface Health {
  status: "healthy" | "degraded" | "unhealthy";
  version: string;
  timestamp: number;
  services: Record<string, boolean>;
  memory_usage: { used_percent: number; available_mb: number; total_mb: number };
  active_tasks: number;
  queue_length: number;
}

export interface ClientOptions {
  /** In Node, DOCV2_URL where not given, else http://127.0.0.1:3000. */
  url?: string;
  /** In Node, DOCV2_API_KEY where not given. Not needed for `models` and `health`. */
  apiKey?: string;
  /** Seconds after its first failure that a submission is tried again while there is no answer, or `not now`; 60. */
  patience?: number;
  /** For a proxy or a certificate authority of one's own. */
  fetch?: typeof globalThis.fetch;
}

export interface Abortable {
  signal?: AbortSignal;
}

export interface ProcessOptions extends Abortable {
  /** Needed for a Blob: its extension tells the type. */
  filename?: string;
  model?: string;
  temperature?: number;
  maxTokens?: number;
  /** Made where not given, so that a repeated submission is never a second task. */
  idempotencyKey?: string;
}

export interface StatusOptions extends Abortable {
  /** Seconds, up to 60, that the server may wait for a change. */
  wait?: number;
}

export interface ListOptions extends Abortable {
  /** Only such; `pending` and `queued` both find all that wait. */
  status?: Task["status"];
  /** At most 100, else 20. */
  limit?: number;
  /** The `next_cursor` of the page before. */
  cursor?: string | null;
}

export interface WaitOptions extends Abortable {
  /** Seconds. */
  timeout?: number;
  onChange?: (task: Task) => void;
}

/** Talks to one docv2 server. */
export class Client {
  constructor(options?: ClientOptions);
  /** Upload a document (in Node also by its path) with a question; resolves as soon as the server has it safe. */
  process(file: string | Blob, prompt: string, options?: ProcessOptions): Promise<Task>;
  /** Where a task stands. */
  status(taskId: string, options?: StatusOptions): Promise<Task>;
  /** Wait for the answer, through restarts of the server. Rejects with TaskFailed or WaitTimeout. */
  wait(taskId: string, options?: WaitOptions): Promise<Result>;
  /** One's own tasks, page by page. */
  tasks(options?: ListOptions): Promise<TaskList>;
  /** Stop a task, waiting or running. APIError with status 409 where it has ended. */
  cancel(taskId: string, options?: Abortable): Promise<Task>;
  /** The models that the caller may use. */
  models(options?: Abortable): Promise<Models>;
  /** How the server is. An unhealthy server answers too. */
  health(options?: Abortable): Promise<Health>;
}

/** Root of everything the client throws on purpose. An aborted call rejects with its signal's reason instead. */
export class ClientError extends Error {
  /** HTTP status; null where there was no answer. */
  readonly status: number | null;
  readonly errorType: string | null;
  readonly requestId: string | null;
  /** Seconds. */
  readonly retryAfter: number | null;
}
/** No answer: refused, cut off, timed out, name unknown. */
export class Unreachable extends ClientError {}
/** An answer, but not docv2's: a proxy's page, a redirect, another service. */
export class UnexpectedAnswer extends ClientError {}
/** docv2 refuses the request; `status` and `errorType` say how. */
export class APIError extends ClientError {}
/** The task ended without an answer; `errorType` is `cancelled` where someone wanted it so. */
export class TaskFailed extends ClientError {
  readonly task: Task;
}
/** The task goes on, the caller's time is up. */
export class WaitTimeout extends ClientError {
  readonly taskId: string;
  readonly task: Task | null;
}
