/** The least a handler can do. */
export default (line) => line
