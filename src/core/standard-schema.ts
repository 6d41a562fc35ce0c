/**
 * The Standard Schema contract (standardschema.dev, version 1) and the one function that runs it.
 *
 * Room: core, contract. zod, valibot, arktype and others all implement it, so message schemas and plugin options are
 * checked by whichever library their author likes; core depends on none of them.
 */

/** A schema of any library that implements Standard Schema v1. */
export interface StandardSchemaV1<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>
    readonly types?: { readonly input: Input; readonly output: Output } | undefined
  }
}

export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] }

export interface SchemaIssue {
  readonly message: string
  /** Items may be plain keys or `{ key }` objects. */
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined
}

/** Runs a schema. The result is a promise only where the schema itself is asynchronous. */
export function validate<Output>(
  schema: StandardSchemaV1<unknown, Output>,
  value: unknown,
): SchemaResult<Output> | Promise<SchemaResult<Output>> {
  return schema['~standard'].validate(value)
}

/** Renders an issue's path the way users write it: `listeners.public.endpoint`. */
export function issuePath(issue: SchemaIssue): string {
  return (issue.path ?? []).map((part) => String(typeof part === 'object' ? part.key : part)).join('.')
}
