/** The handler of cluster.mjs: by file, because a node has to find it. */
export default (message) => message
